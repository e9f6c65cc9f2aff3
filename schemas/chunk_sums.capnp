@0xd4b1c6e0a93f7712;
# The checksums of one weight file, as recorded when it was first read. A file on disk holds one such
# message and behind it 16 bytes: the XXH3-128 of the message, low half first, little endian.
# Append fields only.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("troupe::schemas");

struct ChunkSums {
  path @0 :Text;
  device @1 :UInt64;
  inode @2 :UInt64;
  sizeBytes @3 :UInt64;
  modifiedNs @4 :Int64;
  chunkBytes @5 :UInt32;
  # XXH3-128 of every chunk (the last may be shorter), low and high half in turn; two zeros where no
  # load has read the chunk yet.
  sums @6 :List(UInt64);
  # Offset of a chunk that once differed from its checksum; -1 = none.
  badAt @7 :Int64 = -1;
  # What was found there instead.
  badSumLow @8 :UInt64;
  badSumHigh @9 :UInt64;
}
