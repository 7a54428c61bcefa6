//! A network that is simulated: on its thread, every [`channel`](crate::channel) opens its connections there.
//!
//! A simulation of whole services runs all of them on one thread. The way to open a connection is a property of that thread, so that no
//! service has to be told.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a simulated connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection that is being opened.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens a connection to `host:port`.
pub type Dial = Arc<dyn Fn(String) -> Dialing + Send + Sync>;

thread_local! {
    static DIAL: RefCell<Option<Dial>> = const { RefCell::new(None) };
}

/// The simulated network of this thread, until it is dropped.
#[must_use = "the real network is back when this is dropped"]
pub struct Network {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Network {
    pub fn begin(dial: Dial) -> Self {
        DIAL.set(Some(dial));
        Self { _thread: PhantomData }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        DIAL.set(None);
    }
}

pub(crate) fn dial() -> Option<Dial> {
    DIAL.with_borrow(Clone::clone)
}
