package logstore

import (
	"cmp"
	"sync"

	"github.com/go-partd/partd/internal/engine/segment"
)

func newStore(dir string, opts Options, h hooks) *Store {
	s := &Store{opts: opts, hooks: h}
	s.fs, s.dir, s.log, s.readOnly = h.fs, dir, opts.Logger, opts.ReadOnly
	s.format.KeyHash = h.hash
	s.catalog.directory, s.catalog.format = &s.directory, &s.format
	s.wal.directory, s.wal.format = &s.directory, &s.format
	s.wal.step, s.wal.maxRecord = cmp.Or(h.walStep, walStep), opts.Memory/8
	s.tables.mu, s.tables.free = &s.mu, make(chan *memtable, 2)
	s.segments.directory, s.segments.catalog, s.segments.version = &s.directory, &s.catalog, &version{refs: 1}
	s.segments.maxFile, s.segments.maxIndex = opts.FileSize, opts.Memory/32
	s.segments.onOldReleased = func() {
		if s.reclaim.mustMeasure { // a measurement of dead space is waiting for these readers
			s.background.consider()
		}
	}
	s.views = views{
		directory: &s.directory, mu: &s.mu, format: &s.format,
		catalog: &s.catalog, segments: &s.segments, tables: &s.tables,
	}
	s.journal = journal{
		directory: &s.directory, mu: &s.mu, format: &s.format, catalog: &s.catalog, segments: &s.segments,
		wal: &s.wal, tables: &s.tables, sealer: &s.sealer, blobs: &s.blobs, reclaim: &s.reclaim, maxSessions: opts.MaxSessions,
	}
	s.journal.considerMerge = s.background.consider
	s.journal.considerReclaim = func() {
		if s.background.reclaimDue() {
			s.background.consider()
		}
	}
	s.syncer.locks, s.syncer.journal = &s.storeLocks, &s.journal
	s.merging = merging{
		directory: &s.directory, locks: &s.storeLocks, format: &s.format, catalog: &s.catalog, segments: &s.segments, views: &s.views,
		tables: &s.tables, journal: &s.journal, sealer: &s.sealer, reclaim: &s.reclaim,
		storeMemory: opts.Memory, compression: opts.Compression, loadBytes: h.mergeBytes,
	}
	s.reclaimer = reclaimer{merging: &s.merging, blobs: &s.blobs, changes: &sync.WaitGroup{}}
	s.background.merging, s.background.reclaimer = &s.merging, &s.reclaimer
	s.scans.directory, s.scans.mu, s.scans.format, s.scans.tables, s.scans.hooks = &s.directory, &s.mu, &s.format, &s.tables, &s.hooks
	s.encoder.format, s.encoder.tables, s.encoder.blobs = &s.format, &s.tables, &s.blobs
	s.sealer.catalog, s.sealer.segments = &s.catalog, &s.segments
	s.blobs.catalog, s.blobs.segments = &s.catalog, &s.segments
	s.reclaim.disabled, s.reclaim.slack = h.reclaimSlack < 0, cmp.Or(max(h.reclaimSlack, 0), 16<<20+opts.Memory/16)
	return s
}

func (s *Store) initMemory() error {
	h := s.hooks
	s.blobBytes = segment.MaxInline + 1
	if s.opts.Memory < 32<<20 {
		s.blobBytes = 16 << 10
	}
	s.maxBatch = int(cmp.Or(h.maxBatch, h.tableBytes/2, s.opts.Memory/32))
	s.tables.bytes = cmp.Or(h.tableBytes, s.opts.Memory*3/8)
	s.blobBytes = cmp.Or(h.blobBytes, s.blobBytes)
	m := &s.merging
	m.minCount, m.maxLen = cmp.Or(h.minMerge, minMerge), cmp.Or(h.mergeBytes, maxMerged)
	// The segments that a merge writes must not count as small, or they would be merged again.
	m.smallLen = min(cmp.Or(h.smallLen, s.tables.bytes/4), m.maxLen)
	s.reclaimer.blobBytes, s.scans.maxBatch = s.blobBytes, s.maxBatch
	s.scans.readBytes = cmp.Or(h.readBytes, s.opts.Memory/10)
	if s.opts.ReadOnly || s.fullError() != nil {
		return nil
	}
	return s.makeTables()
}
