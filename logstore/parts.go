package logstore

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// maxRecord is the maximum of encoder.maxBatch, because lengths and offsets in a batch have 32 bits.
const maxRecord = 1 << 30

// newStore returns an unopened store whose parts refer to each other.
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
			s.background.startIfDue()
		}
	}
	s.views = views{
		directory: &s.directory, mu: &s.mu, format: &s.format,
		catalog: &s.catalog, segments: &s.segments, tables: &s.tables,
	}
	s.journal = journal{
		directory: &s.directory, mu: &s.mu, format: &s.format, catalog: &s.catalog, segments: &s.segments,
		wal: &s.wal, tables: &s.tables, sealer: &s.sealer, blobs: &s.blobs, reclaim: &s.reclaim,
		maxSessions: opts.MaxSessions,
	}
	s.journal.considerMerge = s.background.startIfDue
	s.journal.considerReclaim = func() {
		if s.background.reclaimDue() {
			s.background.startIfDue()
		}
	}
	s.syncer = syncer{locks: &s.storeLocks, journal: &s.journal, everyChange: opts.Sync}
	s.merging = merging{
		directory: &s.directory, locks: &s.storeLocks, format: &s.format, catalog: &s.catalog,
		segments: &s.segments, views: &s.views, tables: &s.tables, journal: &s.journal, sealer: &s.sealer, reclaim: &s.reclaim,
		storeMemory: opts.Memory, compression: opts.Compression, loadBytes: h.mergeBytes,
	}
	s.reclaimer = reclaimer{merging: &s.merging, blobs: &s.blobs, changes: &sync.WaitGroup{}}
	s.background.merging, s.background.reclaimer = &s.merging, &s.reclaimer
	s.scans = scans{
		directory: &s.directory, mu: &s.mu, format: &s.format, tables: &s.tables, hooks: &s.hooks,
		readBytes: cmp.Or(h.readBytes, opts.Memory/10),
	}
	s.encoder.format, s.encoder.tables, s.encoder.blobs = &s.format, &s.tables, &s.blobs
	s.sealer.catalog, s.sealer.segments = &s.catalog, &s.segments
	s.blobs.catalog, s.blobs.segments = &s.catalog, &s.segments
	s.reclaim.disabled, s.reclaim.slack = h.reclaimSlack < 0, cmp.Or(max(h.reclaimSlack, 0), 16<<20+opts.Memory/16)
	s.blobBytes = segment.MaxInline + 1
	if opts.Memory < 32<<20 {
		s.blobBytes = 16 << 10
	}
	s.blobBytes = cmp.Or(h.blobBytes, s.blobBytes)
	s.maxBatch = int(min(cmp.Or(h.maxBatch, h.tableBytes/2, opts.Memory/32), maxRecord))
	s.tables.bytes = cmp.Or(h.tableBytes, opts.Memory*3/8)
	m := &s.merging
	m.minCount, m.maxLen = cmp.Or(h.minMerge, minMerge), cmp.Or(h.mergeBytes, maxMerged)
	// The segments that a merge writes must not count as small, or they would be merged again.
	m.smallLen = min(cmp.Or(h.smallLen, s.tables.bytes/4), m.maxLen)
	s.reclaimer.blobBytes, s.scans.maxBatch = s.blobBytes, s.maxBatch
	return s
}

// start opens the store. After an error, releaseAll closes everything that start opened.
func (s *Store) start() error {
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	m, exists, err := s.catalog.read()
	if err != nil {
		return err
	}
	if !exists {
		if s.opts.ReadOnly {
			return fmt.Errorf("there is no store here: %w", os.ErrNotExist)
		}
		m, err = s.newManifest()
		if err != nil {
			return err
		}
	}
	s.catalog.manifest, s.format.ID, s.format.Seed = m, m.id, m.seed
	s.durable.Store(m.durable || s.opts.Sync && !exists)
	s.wal.wasDurable = m.durable
	// A process that died may not have synced all data.
	s.syncer.allSynced = m.durable && exists && m.clean
	s.catalog.files = newFileSet()
	for _, ref := range m.files {
		f, err := s.catalog.open(ref, s.openFlag())
		if err != nil {
			return err
		}
		s.catalog.files.replace(nil, f)
		if err := s.segments.load(f); err != nil {
			return err
		}
	}
	if err := m.ledger.Diff(ledgerOf(s.segments.list)); err != nil {
		return &partd.CorruptError{
			Path: filepath.Join(s.dir, manifestName), Offset: -1, Err: fmt.Errorf("segments are missing: %w", err),
		}
	}
	s.journal.seq, s.journal.sessions = m.nextSeq, m.sessions.clone()
	if s.opts.ReadOnly || s.noWALError() != nil {
		return s.journal.recoverReadOnly(exists, s.opts.Memory, s.maxBatch)
	}
	if err := s.journal.allocate(s.opts.Compression); err != nil {
		return err
	}
	s.encoder.allocate()
	if err := s.journal.recoverWrite(exists); err != nil {
		return err
	}
	if err := s.catalog.removeLeftovers(); err != nil {
		return err
	}
	s.catalog.shortenFiles(s.sealer.file)
	s.catalog.ensureSpare()
	if s.durable.Load() || s.opts.Sync {
		if err := s.syncer.makeDurable(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaim.start(&s.segments, s.catalog.files, s.tables.bits)
	s.background.startIfDue()
	return nil
}
