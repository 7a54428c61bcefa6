//! The Admin service: changes go to the controller, questions are answered from the image.

mod changes;
mod cluster;
mod configs;
mod describe;
mod features;
mod groups;
mod unclean;

use std::sync::Arc;

use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::deadline_of;
use tonic::{Request, Response, Status};

use crate::port::BrokerPort;
use crate::shared::Shared;

/// Topics in one call.
const TOPICS_MAX: usize = 1_000;

/// Implements `thalweg.admin.v1.Admin`.
pub(crate) struct AdminService<B>(pub(crate) Arc<Shared<B>>);

#[tonic::async_trait]
impl<B: BrokerPort> proto::admin_server::Admin for AdminService<B> {
    async fn create_topics(
        &self,
        request: Request<proto::CreateTopicsRequest>,
    ) -> Result<Response<proto::CreateTopicsResponse>, Status> {
        let deadline = deadline_of(&request);
        let answer = changes::create_topics(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(answer))
    }

    async fn delete_topics(
        &self,
        request: Request<proto::DeleteTopicsRequest>,
    ) -> Result<Response<proto::DeleteTopicsResponse>, Status> {
        let deadline = deadline_of(&request);
        let answer = changes::delete_topics(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(answer))
    }

    async fn create_partitions(
        &self,
        request: Request<proto::CreatePartitionsRequest>,
    ) -> Result<Response<proto::CreatePartitionsResponse>, Status> {
        let deadline = deadline_of(&request);
        let answer = changes::create_partitions(&self.0, request.into_inner(), deadline).await?;
        Ok(Response::new(answer))
    }

    async fn list_topics(
        &self,
        request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        let image = self.0.feed.image();
        Ok(Response::new(describe::list_topics(&image, &request.into_inner())?))
    }

    async fn describe_topics(
        &self,
        request: Request<proto::DescribeTopicsRequest>,
    ) -> Result<Response<proto::DescribeTopicsResponse>, Status> {
        let image = self.0.feed.image();
        Ok(Response::new(describe::describe_topics(&image, &request.into_inner())?))
    }

    async fn describe_configs(
        &self,
        request: Request<proto::DescribeConfigsRequest>,
    ) -> Result<Response<proto::DescribeConfigsResponse>, Status> {
        Ok(Response::new(configs::describe(&self.0, request.into_inner()).await?))
    }

    async fn alter_configs(
        &self,
        request: Request<proto::AlterConfigsRequest>,
    ) -> Result<Response<proto::AlterConfigsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(configs::alter(&self.0, request.into_inner(), deadline).await?))
    }

    async fn describe_cluster(
        &self,
        request: Request<proto::DescribeClusterRequest>,
    ) -> Result<Response<proto::DescribeClusterResponse>, Status> {
        let controller_id = changes::active_controller(&self.0, deadline_of(&request)).await;
        let image = self.0.feed.image();
        Ok(Response::new(describe::describe_cluster(&image, controller_id)))
    }

    async fn describe_quorum(
        &self,
        request: Request<proto::DescribeQuorumRequest>,
    ) -> Result<Response<proto::DescribeQuorumResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(cluster::describe_quorum(&self.0, deadline).await?))
    }

    async fn add_voter(
        &self,
        request: Request<proto::AddVoterRequest>,
    ) -> Result<Response<proto::AddVoterResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(cluster::add_voter(&self.0, request.into_inner(), deadline).await?))
    }

    async fn remove_voter(
        &self,
        request: Request<proto::RemoveVoterRequest>,
    ) -> Result<Response<proto::RemoveVoterResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(cluster::remove_voter(&self.0, request.into_inner(), deadline).await?))
    }

    async fn reassign(
        &self,
        request: Request<proto::ReassignRequest>,
    ) -> Result<Response<proto::ReassignResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(cluster::reassign(&self.0, request.into_inner(), deadline).await?))
    }

    async fn plan_reassignment(
        &self,
        request: Request<proto::PlanReassignmentRequest>,
    ) -> Result<Response<proto::PlanReassignmentResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(
            cluster::plan_reassignment(&self.0, request.into_inner(), deadline).await?,
        ))
    }

    async fn elect_preferred_leaders(
        &self,
        request: Request<proto::ElectPreferredLeadersRequest>,
    ) -> Result<Response<proto::ElectPreferredLeadersResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(
            cluster::elect_preferred_leaders(&self.0, request.into_inner(), deadline).await?,
        ))
    }

    async fn elect_unclean_leaders(
        &self,
        request: Request<proto::ElectUncleanLeadersRequest>,
    ) -> Result<Response<proto::ElectUncleanLeadersResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(unclean::elect(&self.0, request.into_inner(), deadline).await?))
    }

    async fn shut_down_broker(
        &self,
        request: Request<proto::ShutDownBrokerRequest>,
    ) -> Result<Response<proto::ShutDownBrokerResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(cluster::shut_down_broker(&self.0, request.into_inner(), deadline).await?))
    }

    async fn describe_features(
        &self,
        _: Request<proto::DescribeFeaturesRequest>,
    ) -> Result<Response<proto::DescribeFeaturesResponse>, Status> {
        Ok(Response::new(features::describe(&self.0.feed.image())))
    }

    async fn update_features(
        &self,
        request: Request<proto::UpdateFeaturesRequest>,
    ) -> Result<Response<proto::UpdateFeaturesResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(features::update(&self.0, request.into_inner(), deadline).await?))
    }

    async fn unregister_broker(
        &self,
        request: Request<proto::UnregisterBrokerRequest>,
    ) -> Result<Response<proto::UnregisterBrokerResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(
            cluster::unregister_broker(&self.0, request.into_inner(), deadline).await?,
        ))
    }

    async fn list_reassignments(
        &self,
        request: Request<proto::ListReassignmentsRequest>,
    ) -> Result<Response<proto::ListReassignmentsResponse>, Status> {
        let image = self.0.feed.image();
        Ok(Response::new(cluster::list_reassignments(&image, request.into_inner())?))
    }

    async fn list_groups(
        &self,
        request: Request<proto::ListGroupsRequest>,
    ) -> Result<Response<proto::ListGroupsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::list(&self.0, request.into_inner(), deadline).await?))
    }

    async fn describe_groups(
        &self,
        request: Request<proto::DescribeGroupsRequest>,
    ) -> Result<Response<proto::DescribeGroupsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::describe(&self.0, request.into_inner(), deadline).await?))
    }

    async fn group_lag(
        &self,
        request: Request<proto::GroupLagRequest>,
    ) -> Result<Response<proto::GroupLagResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::lag(&self.0, request.into_inner(), deadline).await?))
    }

    async fn diagnose_group(
        &self,
        request: Request<proto::DiagnoseGroupRequest>,
    ) -> Result<Response<proto::DiagnoseGroupResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::diagnose(&self.0, request.into_inner(), deadline).await?))
    }

    async fn reset_group_offsets(
        &self,
        request: Request<proto::ResetGroupOffsetsRequest>,
    ) -> Result<Response<proto::ResetGroupOffsetsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::reset(&self.0, request.into_inner(), deadline).await?))
    }

    async fn delete_groups(
        &self,
        request: Request<proto::DeleteGroupsRequest>,
    ) -> Result<Response<proto::DeleteGroupsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(groups::delete(&self.0, request.into_inner(), deadline).await?))
    }
}
