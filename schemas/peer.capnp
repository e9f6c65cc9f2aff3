@0xe3a57c0d91b24f68;
# What nodes say to each other on the data plane. Each message on the wire: 4 bytes "TPD1", its
# length in bytes as a little-endian 32-bit number, the message as one flat array, and behind an
# answer `payloadBytes` bytes that belong to it. Append fields only: neighbouring versions talk.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("troupe::schemas");

# The first message of both sides.
struct PeerHello {
  protocol @0 :UInt32;
  node @1 :Text;
}

enum PeerCall {
  list @0; # the files of a model
  read @1; # a part of one file
}

struct PeerRequest {
  number @0 :UInt64; # chosen by who asks; answers may come in any order
  call @1 :PeerCall;
  model @2 :Text;
  file @3 :Text;
  version @4 :Text; # as listed: the bytes of another one are not wanted
  offset @5 :UInt64;
  length @6 :UInt32;
  # How long to wait for a model that this node does not know yet, or bytes that it is fetching.
  patienceMs @7 :UInt32;
  otherVersion @8 :Text; # will do as well
}

struct PeerFile {
  path @0 :Text;
  sizeBytes @1 :UInt64;
  version @2 :Text;    # equal ones mean equal bytes, wherever they are
  isWeights @3 :Bool;
  headBytes @4 :UInt64; # of weights: what stands before the first tensor
  chunkBytes @5 :UInt32;
  # XXH3-128 of every chunk of that size, low and high half in turn; two zeros = unknown.
  sums @6 :List(UInt64);
  otherVersion @7 :Text; # by which the same bytes were known before their checksums were; or empty
  # Of a file that was fetched: what names its bytes for all who fetch it from there; or empty.
  addressed @8 :Text;
}

struct PeerAnswer {
  number @0 :UInt64;
  errorCode @1 :UInt8; # of storage::errc; 0 = well
  error @2 :Text;
  pending @3 :Bool;    # still there, but what was asked for has not come yet; another answer will
  payloadBytes @4 :UInt64;
  sumLow @5 :UInt64;   # XXH3-128 of the payload
  sumHigh @6 :UInt64;
  files @7 :List(PeerFile);
}
