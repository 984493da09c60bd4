package logstore

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// nextMerge returns the next due merge, or nil. mu must be held; it is released to wait for a seal.
func (m *merging) nextMerge(ctx context.Context) *mergeJob {
	m.journal.waitSealed()
	if ctx.Err() != nil || m.checkWritable() != nil {
		return nil
	}
	first, due := m.dueMerge()
	if !due {
		return nil
	}
	return m.newMerge(ctx, first, len(m.segments.list), false)
}

// newMerge prepares a merge of the segments [first, end). If readAll is set, the merge also reads
// all other segments to find dead entries. newMerge returns nil if the store is closing and the
// merge would take long. mu must be held.
func (m *merging) newMerge(ctx context.Context, first, end int, readAll bool) *mergeJob {
	inputs := m.segments.list[first:end]
	bytes := sizeOf(inputs)
	if m.isStopping && bytes > maxCloseMerge {
		return nil
	}
	isInUse := func(seg *storedSegment) bool { return seg.file == m.sealer.file }
	if m.sealer.file != nil && slices.ContainsFunc(inputs, isInUse) {
		// The merge will truncate or remove this file: write the next segment to another file.
		m.sealer.rotate.Store(true)
	}
	j := &mergeJob{merging: m, ctx: ctx, listIndex: first, inputBytes: bytes, reclaims: readAll}
	if readAll {
		j.view, j.first, j.end, j.hasOldest = m.views.viewOfSegments(m.segments.list), first, end, true
	} else {
		j.view, j.end, j.hasOldest = m.views.viewOfSegments(inputs), len(inputs), first == 0
	}
	j.plan()
	m.bytes, m.memory = bytes, 2*j.limit+j.limit/2+2*segment.WriteSize
	return j
}

// run merges the segments and commits the result. After an error, it removes its output files.
func (j *mergeJob) run() error {
	err := j.writeAndCommit()
	if err != nil {
		// Keep the new files if the manifest may name them.
		u := maybeApplied{}
		err = errors.Join(err, j.undo(!errors.As(err, &u)))
	}
	j.locks.mu.Lock()
	if err != nil && !j.journal.sealing {
		j.sealer.rotate.Store(false) // nothing was merged: the current file can stay in use
	}
	j.locks.mu.Unlock()
	return errors.Join(err, j.view.close())
}

func (j *mergeJob) writeAndCommit() error {
	if err := j.checkSpace(); err != nil {
		return err
	}
	err := j.write()
	if err == errSplitBlobs {
		if err := j.undo(true); err != nil {
			return err
		}
		j.readsBlobs = true
		err = j.write()
	}
	if err != nil {
		return err
	}
	return j.commit()
}

// checkSpace returns an error if the merge would leave too little disk space for appends. It does
// not check merges that reclaim space, because nextReclaim has done so.
func (j *mergeJob) checkSpace() error {
	if j.reclaims {
		return nil
	}
	free, err := j.free()
	if need := j.inputBytes + j.inputBytes/8 + j.storeMemory; err == nil && free < need {
		return fmt.Errorf("the merge temporarily needs %d bytes of disk, but only %d are free", need, free)
	}
	return err
}

// commit atomically replaces the merged segments with the new ones.
func (j *mergeJob) commit() error {
	// Sync the new files even in a store without syncs: the old files, which will be removed, were
	// probably on disk already. Sync before taking locks, because syncing is slow.
	for _, seg := range j.outputs {
		if err := seg.file.f.Sync(); err != nil {
			return err
		}
		seg.file.dirty.Store(false)
	}
	if err := errors.Join(j.syncExclusive(j.syncDir), j.ctx.Err()); err != nil {
		return err
	}
	doomed, err := j.replace()
	for _, f := range doomed {
		j.warn(j.fs.Remove(f.Path), `a merged file could not be removed; the next Open will retry`, "path", f.Path)
	}
	return err
}

// replace commits the new segments and returns the files to remove.
func (j *mergeJob) replace() ([]*dataFile, error) {
	j.locks.lifeMu.RLock()
	defer j.locks.lifeMu.RUnlock()
	j.locks.firstSync.Lock() // otherwise, a concurrent first Sync could sync only the old files
	defer j.locks.firstSync.Unlock()
	j.locks.mu.Lock()
	dropped := j.catalog.files != j.view.files || j.closed
	j.locks.mu.Unlock()
	if dropped {
		return nil, errDropped
	}
	first := j.inputs()[0]
	var doomed []*dataFile
	var cuts []fileCut
	for _, seg := range j.inputs() {
		switch {
		case seg.file == first.file && first.Start > segment.HeaderLen:
			if len(cuts) == 0 {
				cuts = append(cuts, fileCut{seg.file, first.Start})
			}
		case !slices.Contains(doomed, seg.file):
			doomed = append(doomed, seg.file)
		}
	}
	if err := j.replaceManifest(doomed, cuts); err != nil {
		return nil, err
	}
	j.locks.mu.Lock()
	defer j.locks.mu.Unlock()
	for _, c := range cuts {
		c.file.end = c.end
	}
	laterSegments := j.segments.list[j.listIndex+len(j.inputs()):]
	j.segments.list = j.segments.limitIndex(slices.Concat(j.segments.list[:j.listIndex], j.outputs, laterSegments))
	if j.sealer.rotate.Load() && !j.journal.sealing && len(laterSegments) == 0 { // no segment was sealed during the merge
		j.sealer.file = nil
		if n := len(j.outputs); n > 0 {
			j.sealer.file = j.outputs[n-1].file
		}
		j.sealer.rotate.Store(false)
	}
	j.forgetWaste()
	j.segments.startVersion(doomed, cuts)
	j.segments.wasted.Store(0)
	j.segments.wasteLimit.Store(0)
	return doomed, nil
}

func (j *mergeJob) replaceManifest(doomed []*dataFile, cuts []fileCut) error {
	j.catalog.mu.Lock()
	defer j.catalog.mu.Unlock()
	m := j.catalog.manifest
	m.ledger.Sub(j.dropped)
	m.removedLedger.Add(j.dropped)
	pos := -1
	m.files = nil
	for _, ref := range j.catalog.manifest.files {
		switch {
		case ref.kind != segment.SegmentFile:
		case len(cuts) > 0 && ref.number == cuts[0].file.Number:
			ref.end = cuts[0].end
			pos = len(m.files) + 1
		case slices.ContainsFunc(doomed, func(f *dataFile) bool { return f.Number == ref.number }):
			if pos < 0 {
				pos = len(m.files)
			}
			continue
		}
		m.files = append(m.files, ref)
	}
	var refs []fileRef
	var files []*dataFile
	for _, seg := range j.outputs {
		refs = append(refs, fileRef{segment.SegmentFile, seg.file.Number, seg.End})
		files = append(files, seg.file)
	}
	m.files = slices.Insert(m.files, pos, refs...)
	if err := j.catalog.replace(m, true); err != nil {
		return err
	}
	j.catalog.files.replace(doomed, files...)
	return nil
}

// forgetWaste updates j.reclaim and the size of the store after a merge. mu must be held.
func (j *mergeJob) forgetWaste() {
	r := j.reclaim
	for _, seg := range j.inputs() {
		r.wasted -= r.waste[seg.location()].sum()
		delete(r.waste, seg.location())
	}
	for _, n := range j.freed {
		r.garbage += n
	}
	r.weights = nil
	grown := sizeOf(j.outputs) - sizeOf(j.inputs())
	j.segments.size.Add(grown)
	if j.reclaims {
		r.freed -= grown
	}
}

// mergeJob merges consecutive segments, range by range, into one segment, or into several
// with consecutive ranges. It drops dead entries and subtracts them from the store's ledger.
type mergeJob struct {
	*merging
	ctx        context.Context
	view       *view
	first, end int // view.segments[first:end] are merged; the other segments only show which entries are dead
	listIndex  int // index of the first merged segment in segments.list
	inputBytes int64
	hasOldest  bool // the view includes the oldest segment
	reclaims   bool // the merge reclaims space

	bits       uint8
	limit      int64 // maximum bytes loaded at a time
	maxLen     int64 // approximate maximum length of a segment
	readsBlobs bool  // the merge reads large values, to compute the ledger of each of several outputs

	hot       []segment.HotRun // keys with their own runs, sorted
	comp      *segment.Compressor
	w         *segment.Writer
	current   *storedSegment   // segment being written
	outputs   []*storedSegment // complete segments
	wroteBlob bool             // an entry that refers to a large value was written
	total     segment.Ledger   // ledger of the written entries; Sum omits large values unless readsBlobs is set
	arenas    [2][]byte
	src       segment.Reader
	er        segment.EntryReader

	resets  map[string]*keyReset
	dropped segment.Ledger   // ledger of the dropped entries
	freed   map[uint32]int64 // bytes of dropped large values, by blob file
}

func (j *mergeJob) inputs() []*storedSegment { return j.view.segments[j.first:j.end] }

// errSplitBlobs is returned by finish. The merge then starts again with readsBlobs set.
var errSplitBlobs = errors.New("the merge must read large values, because it writes several segments")

func (j *mergeJob) plan() {
	size := max(j.inputBytes, sizeOf(j.view.segments)>>6) // the merge also reads the other segments' ranges
	j.bits = uint8(min(max(bits.Len64(uint64(size/mergedRange)), 1)-1, maxBits))
	j.limit = min(max(j.storeMemory/64, 128<<10), 8<<20)
	j.maxLen = min(j.merging.maxLen, max(minFileSize, j.tables.bytes, j.inputBytes/8))
	if n := j.loadBytes; n > 0 {
		j.limit = n
	}
}

// hotBytes returns the minimum size of a hot key's entries in a merge, in bytes.
func (j *mergeJob) hotBytes() int64 { return max(j.inputBytes/2048, 4<<10) }

// keyReset counts the Sets and Deletes of one key, which discard its earlier entries.
type keyReset struct {
	count        int  // number of the key's Sets and Deletes in the merged and later segments
	passedCount  int  // number of those Sets and Deletes that isDead has seen
	firstSegment int  // for countEntry: index of the first segment with the key, plus one; 0 if not yet seen
	hasOlder     bool // segments older than the merged ones contain, or may contain, entries of the key
}

const resetCost = 80 // approximate memory of an entry in mergeJob.resets without its key, in bytes
