// franz-go on the command line; verbs and formats are those of ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// An answer that did not come within this time is an error.
const patience = 60 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bootstrap, verb string, args []string) error {
	switch verb {
	case "produce":
		return produce(ctx, bootstrap, args[0], int32(number(args[1])), args[2])
	case "consume":
		return consume(ctx, bootstrap, args[0], int32(number(args[1])), number(args[2]), number(args[3]))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if verb == "offsets" {
		return offsets(ctx, admin, args[0], int32(number(args[1])), number(args[2]))
	}
	return administer(ctx, admin, verb, args)
}

func produce(ctx context.Context, bootstrap, topic string, partition int32, codec string) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[codec]),
		kgo.ProducerBatchMaxBytes(64<<20),
		kgo.BrokerMaxWriteBytes(128<<20),
		kgo.AllowAutoTopicCreation(),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	var lock sync.Mutex
	var failure error
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for index := 0; ; index++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		record := recordOf(strings.TrimSuffix(line, "\n"))
		record.Topic, record.Partition = topic, partition
		client.Produce(ctx, record, func(record *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failure = err
				return
			}
			fmt.Println("ack", index, record.Offset)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	return failure
}

func consume(ctx context.Context, bootstrap, topic string, partition int32, from, count int64) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for count > 0 {
		fetches := client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			return failed.Err
		}
		for _, record := range fetches.Records() {
			if count--; count < 0 {
				break
			}
			var headers []string
			for _, header := range record.Headers {
				headers = append(headers, header.Key+":"+toHex(header.Value))
			}
			fmt.Fprintf(out, "%d\t%d\t%s\t%s\t%s\n", record.Offset, record.Timestamp.UnixMilli(),
				toHex(record.Key), toHex(record.Value), strings.Join(headers, ","))
		}
	}
	return nil
}

func offsets(ctx context.Context, admin *kadm.Client, topic string, partition int32, timestamp int64) error {
	earliest, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	latest, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	// An ordinary ListOffsets by time; kadm answers the end where no record is that late.
	found, err := admin.ListOffsetsAfterMilli(ctx, timestamp, topic)
	if err != nil {
		return err
	}
	for _, listed := range []struct {
		name    string
		offsets kadm.ListedOffsets
	}{{"earliest", earliest}, {"latest", latest}, {"timestamp", found}} {
		offset, known := listed.offsets.Lookup(topic, partition)
		if !known || offset.Err != nil {
			return fmt.Errorf("%s: %v", listed.name, offset.Err)
		}
		if listed.name == "timestamp" && offset.Timestamp < 0 {
			offset.Offset = -1
		}
		fmt.Println(listed.name, offset.Offset)
	}
	return nil
}

func administer(ctx context.Context, admin *kadm.Client, verb string, args []string) error {
	switch verb {
	case "create":
		configs := map[string]*string{}
		for _, config := range args[2:] {
			name, value, _ := strings.Cut(config, "=")
			configs[name] = &value
		}
		if _, err := admin.CreateTopic(ctx, int32(number(args[1])), -1, configs, args[0]); err != nil {
			return err
		}
		fmt.Println("created")
	case "describe":
		topics, err := admin.ListTopics(ctx, args[0])
		if err != nil {
			return err
		}
		if err := topics[args[0]].Err; err != nil {
			return err
		}
		for _, partition := range topics[args[0]].Partitions.Sorted() {
			fmt.Println("partition", partition.Partition, "leader", partition.Leader, "replicas", len(partition.Replicas))
		}
	case "configs":
		resources, err := admin.DescribeTopicConfigs(ctx, args[0])
		if err != nil {
			return err
		}
		for _, resource := range resources {
			if resource.Err != nil {
				return resource.Err
			}
			for _, config := range resource.Configs {
				fmt.Println(config.Key + "=" + config.MaybeValue())
			}
		}
	case "grow":
		grown, err := admin.UpdatePartitions(ctx, int(number(args[1])), args[0])
		if err == nil {
			err = grown.Error()
		}
		if err != nil {
			return err
		}
		fmt.Println("grown")
	case "delete":
		deleted, err := admin.DeleteTopics(ctx, args[0])
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			return err
		}
		fmt.Println("deleted")
	case "list":
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			return err
		}
		names := topics.Names()
		sort.Strings(names)
		fmt.Println(strings.Join(names, "\n"))
	default:
		return fmt.Errorf("no such verb: %s", verb)
	}
	return nil
}

func recordOf(line string) *kgo.Record {
	fields := strings.Split(line, "\t")
	record := &kgo.Record{Timestamp: time.UnixMilli(number(fields[0])), Key: fromHex(fields[1]), Value: fromHex(fields[2])}
	for _, header := range strings.Split(fields[3], ",") {
		if name, value, found := strings.Cut(header, ":"); found {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: fromHex(value)})
		}
	}
	return record
}

func number(text string) int64 {
	parsed, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error", err)
		os.Exit(1)
	}
	return parsed
}

func fromHex(text string) []byte {
	if text == "-" {
		return nil
	}
	decoded, err := hex.DecodeString(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error", err)
		os.Exit(1)
	}
	return decoded
}

func toHex(value []byte) string {
	if value == nil {
		return "-"
	}
	return hex.EncodeToString(value)
}
