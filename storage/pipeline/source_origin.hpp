#pragma once
#include "storage/pipeline/job_threads.hpp"
#include "storage/pipeline/origin.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// A file of a source, read in ranges by `threads`, straight into the pool, without a copy on a
/// disk. A file without a version is taken for another one by every origin. `threads` outlives all
/// reads.
std::shared_ptr<chunk_origin> make_source_origin(job_threads& threads, std::shared_ptr<source> from,
                                                 source_file file);

/// One file that several origins have, all of them asked at once: each read goes where it is
/// expected to end first, by what an origin delivered so far and what it has to deliver yet, so
/// that the bytes are shared out in proportion to the bandwidths. What one has in this machine's
/// memory is read from there. An origin that fails is asked no
/// more, and what it owed is read from the others; the last failure is that of the read. `origins`
/// is not empty, and all hold the same bytes: the key is that of the first.
std::shared_ptr<chunk_origin> make_joint_origin(std::vector<std::shared_ptr<chunk_origin>> origins);

} // namespace troupe::storage
