//! What one table of APIs turns into: [`ApiKey`](super::ApiKey), [`Request`](super::Request),
//! [`Response`](super::Response) and the dispatch between them. The table itself is generated.

/// Takes lines of `Name = key, request, response, is the latest version unstable`.
macro_rules! apis {
    ($($name:ident = $key:literal, $request:path, $response:path, $unstable:literal;)*) => {
        /// An API of the protocol, with the versions the schemas of Apache Kafka 4.3.0 give it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[repr(i16)]
        pub enum ApiKey { $($name = $key,)* }

        impl ApiKey {
            /// Every API, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The API with this number.
            pub fn from_code(code: i16) -> Option<Self> {
                match code { $($key => Some(Self::$name),)* _ => None }
            }

            /// The API with this name, as [`name`](Self::name) spells it.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// Its number.
            pub const fn code(self) -> i16 { self as i16 }

            /// Its name, e.g. `Produce`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The versions its requests can be decoded in, [unstable](Self::latest_version_unstable) ones included.
            pub const fn request_versions(self) -> std::ops::RangeInclusive<i16> {
                match self { $(Self::$name => <$request>::VERSIONS,)* }
            }

            /// The versions its responses can be encoded in.
            pub const fn response_versions(self) -> std::ops::RangeInclusive<i16> {
                match self { $(Self::$name => <$response>::VERSIONS,)* }
            }

            /// The versions Kafka advertises unless told to enable unstable ones.
            pub fn stable_versions(self) -> std::ops::RangeInclusive<i16> {
                let all = self.request_versions();
                *all.start()..=all.end() - i16::from(self.latest_version_unstable())
            }

            /// Whether the newest version is still being worked on in Kafka.
            pub const fn latest_version_unstable(self) -> bool {
                match self { $(Self::$name => $unstable,)* }
            }

            /// The first version of the request with compact lengths and tagged fields, or `i16::MAX`.
            pub const fn request_flexible_from(self) -> i16 {
                match self { $(Self::$name => <$request>::FLEXIBLE_FROM,)* }
            }

            /// The first version of the response with compact lengths and tagged fields, or `i16::MAX`.
            pub const fn response_flexible_from(self) -> i16 {
                match self { $(Self::$name => <$response>::FLEXIBLE_FROM,)* }
            }
        }

        impl std::fmt::Display for ApiKey {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        $crate::wire::api::bodies!(
            Request, "A request of any API.", $($name, $request;)*
        );
        $crate::wire::api::bodies!(
            Response, "A response of any API.", $($name, $response;)*
        );
    };
}
pub(super) use apis;

/// The enum over all requests, or over all responses.
macro_rules! bodies {
    ($enum:ident, $doc:literal, $($name:ident, $type:path;)*) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "it lives on the stack of one call; boxing would cost an allocation each")]
        pub enum $enum { $($name($type),)* }

        impl $enum {
            /// Which API it belongs to.
            pub const fn api_key(&self) -> ApiKey {
                match self { $(Self::$name(_) => ApiKey::$name,)* }
            }

            /// Reads the body that follows the header.
            pub fn decode(
                api_key: ApiKey,
                version: i16,
                reader: &mut $crate::wire::Reader,
            ) -> Result<Self, $crate::wire::DecodeError> {
                match api_key { $(ApiKey::$name => <$type>::decode(reader, version).map(Self::$name),)* }
            }

            /// Appends the body.
            pub fn encode(
                &self,
                version: i16,
                writer: &mut $crate::wire::Writer,
            ) -> Result<(), $crate::wire::EncodeError> {
                match self { $(Self::$name(body) => body.encode(writer, version),)* }
            }

            /// The default body of an API.
            pub fn default_of(api_key: ApiKey) -> Self {
                match api_key { $(ApiKey::$name => Self::$name(Default::default()),)* }
            }
        }

        impl $crate::wire::walk::Walk for $enum {
            fn walk(&self, version: i16, visitor: &mut dyn $crate::wire::walk::Visitor) {
                match self { $(Self::$name(body) => body.walk(version, visitor),)* }
            }

            fn walk_mut(&mut self, version: i16, visitor: &mut dyn $crate::wire::walk::VisitorMut) {
                match self { $(Self::$name(body) => body.walk_mut(version, visitor),)* }
            }
        }

        $(impl From<$type> for $enum {
            fn from(body: $type) -> Self { Self::$name(body) }
        })*
    };
}
pub(super) use bodies;
