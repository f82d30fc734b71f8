//! The shared pool: what is asked of it, and who may see what.

mod actions;
mod visibility;

pub use actions::{Asking, RequestError, request_influencers};
pub use visibility::{
    VisibilityChange, VisibilityChanged, VisibilityError, VisibilityPreview, preview_visibility,
    set_visibilities, set_visibility,
};
