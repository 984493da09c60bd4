package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Open opens the store in a directory, and creates it if it does not exist. It recovers
// from a crash: see [Store.Recovery]. If the disk is too full for recovery, the store
// supports only reads and Drop; every other change fails with an error that wraps ENOSPC.
func Open(dir string, opts *Options) (*Store, error) {
	return open(dir, opts, hooks{fs: vfs.OS{}})
}

// OpenTemp opens a temporary store in a new subdirectory of dir, or of os.TempDir if dir is
// empty. Close removes the subdirectory. If the process dies first, the next temporary
// store, sort or group in dir removes it.
func OpenTemp(dir string, opts *Options) (*Store, error) {
	path, temp, err := tempdir.NewDir(dir)
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	s, err := Open(path, opts)
	if err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	s.temp = temp
	return s, nil
}

func open(dir string, o *Options, h hooks) (*Store, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	if dir == "" {
		return nil, &partd.Error{Op: "open", Err: errors.New("the directory name is empty")}
	}
	if dir, err = filepath.Abs(dir); err != nil { // the store must not move if the working directory changes
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	newEmpty := func() *Store { return newStore(dir, opts, h) }
	s, err := newEmpty().startOrReadOnly(newEmpty)
	if err != nil {
		return nil, s.opError("open", errors.Join(err, s.releaseAll()))
	}
	return s, nil
}

func newStore(dir string, opts Options, h hooks) *Store {
	s := &Store{opts: opts, hooks: h, changes: &sync.WaitGroup{}}
	s.fs, s.dir, s.log, s.readOnly = h.fs, dir, opts.Logger, opts.ReadOnly
	s.format.KeyHash = h.hash
	s.catalog.directory, s.catalog.format = &s.directory, &s.format
	s.wal.directory, s.wal.format = &s.directory, &s.format
	s.wal.step, s.wal.maxRecord = cmp.Or(h.walStep, walStep), opts.Memory/8
	s.tables.mu, s.tables.free = &s.mu, make(chan *table, 2)
	s.segments.directory, s.segments.catalog, s.segments.version = &s.directory, &s.catalog, &version{refs: 1}
	s.segments.maxFile, s.segments.maxIndex = opts.FileSize, opts.Memory/32
	s.segments.onOldReleased = func() {
		if s.reclaim.mustMeasure { // a measurement of dead space is waiting for these readers
			s.considerMerge()
		}
	}
	s.journal.considerMerge = s.considerMerge
	s.journal.considerReclaim = func() {
		if s.reclaimDue() {
			s.considerMerge()
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
	s.syncing.locks, s.syncing.journal = &s.locks, &s.journal
	s.encoder.format, s.encoder.tables, s.encoder.blobs = &s.format, &s.tables, &s.blobs
	s.sealer.catalog, s.sealer.segments = &s.catalog, &s.segments
	s.blobs.catalog, s.blobs.segments = &s.catalog, &s.segments
	s.reclaim.disabled, s.reclaim.slack = h.reclaimSlack < 0, cmp.Or(max(h.reclaimSlack, 0), 16<<20+opts.Memory/16)
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
		if m, err = s.newManifest(); err != nil {
			return err
		}
	}
	s.catalog.manifest, s.format.ID, s.format.Seed = m, m.id, m.seed
	s.durable.Store(m.durable || s.opts.Sync && !exists)
	s.wal.wasDurable = m.durable
	// A process that died may not have synced all data.
	s.syncing.allSynced = m.durable && exists && m.clean
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
		return &partd.CorruptError{Path: filepath.Join(s.dir, manifestName), Offset: -1, Err: fmt.Errorf("segments are missing: %w", err)}
	}
	s.journal.seq, s.journal.sessions = m.nextSeq, m.sessions.clone()
	if err := s.initMemory(); err != nil {
		return err
	}
	if s.opts.ReadOnly || s.fullError() != nil {
		return s.journal.recoverReadOnly(exists, s.opts.Memory, s.maxBatch)
	}
	if err := s.journal.recoverWrite(exists); err != nil {
		return err
	}
	if err := s.catalog.removeLeftovers(); err != nil {
		return err
	}
	s.shortenFiles()
	s.catalog.ensureSpare()
	if s.durable.Load() || s.opts.Sync {
		if err := s.syncing.makeDurable(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startReclaiming()
	s.considerMerge()
	return nil
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
	s.readBytes = cmp.Or(h.readBytes, s.opts.Memory/10)
	if s.opts.ReadOnly || s.fullError() != nil {
		return nil
	}
	return s.makeTables()
}

// makeTables allocates the tables, batches and compressor, which only changes need.
func (s *Store) makeTables() error {
	var err error
	if s.sealer.comp, err = segment.NewCompressor(segment.Codec(s.opts.Compression)); err != nil {
		return err
	}
	if err := s.tables.allocate(); err != nil {
		return err
	}
	if s.batches == nil {
		s.tables.bits, _ = tableShape(s.tables.bytes)
		s.batches = make(chan *batch, 4)
		for range cap(s.batches) {
			s.batches <- &batch{}
		}
	}
	return nil
}

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }
