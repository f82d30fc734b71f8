mod accepted;
mod creators;
mod properties;
mod rejected;
