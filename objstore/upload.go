package objstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// maxUploads is the maximum number of segments that are being encoded or uploaded at the same time.
const maxUploads = 2

// arenaCount is the number of arenas: one for the active table, and one for each upload. A full table
// is encoded into another arena, and then its own arena is free for the next table.
const arenaCount = maxUploads + 1

// encoder encodes one table at a time.
type encoder struct {
	compressor *segment.Compressor
	bufs       [2][]byte
	data       []byte // the segment being uploaded, in an arena
}

// piece is a segment of this writer that is not yet committed to the log.
type piece struct {
	part         recordPart // complete only after encodingDone is closed
	createdAt    time.Time
	encoder      *encoder      // holds the data until the upload has ended
	encodingDone chan struct{} // closed when the table was encoded and can be reused
	uploadDone   chan struct{} // closed when the upload succeeded, or failed with err
	err          error
	abandoned    bool // the append failed, so the piece must not be committed
}

func (s *Store) allocateTables() (err error) {
	size := s.tableSize()
	s.active, s.spare = emptyTable(size), emptyTable(size)
	for range maxUploads {
		e := &encoder{}
		if e.compressor, err = segment.NewCompressor(0); err != nil {
			return err
		}
		s.encoders = append(s.encoders, e)
	}
	for range arenaCount {
		arena, err := offheap.Allocate(int(maxEncodedSize(size)))
		if err != nil {
			return err
		}
		s.arenas = append(s.arenas, arena)
	}
	s.active.arena = s.takeArena()[:size]
	return nil
}

func (s *Store) takeArena() []byte {
	lastIndex := len(s.arenas) - 1
	arena := s.arenas[lastIndex]
	s.arenas = s.arenas[:lastIndex]
	return arena
}

// returnArena returns an arena for reuse. b is a slice that starts at the arena's beginning, or nil.
func (s *Store) returnArena(b []byte) {
	if b != nil {
		s.arenas = append(s.arenas, b[:cap(b)])
	}
}

func (s *Store) releaseTables() {
	s.active.release()
	s.spare.release()
	for _, e := range s.encoders {
		s.returnArena(e.data)
	}
	for _, a := range s.arenas {
		offheap.Release(a)
	}
	s.active, s.spare, s.encoders, s.arenas = nil, nil, nil, nil
}

// seal replaces the active table with an empty one, and encodes and uploads the full table in the
// background. mu must be held.
func (s *Store) seal(ctx context.Context) error {
	if err := s.waitUploads(ctx, maxUploads-1); err != nil {
		return err
	}
	if n := len(s.uploading); n > 0 {
		if err := canceled.Wait(ctx, s.uploading[n-1].encodingDone); err != nil {
			return err
		}
	}
	s.returnArena(s.spare.arena)
	s.spare.arena = nil
	t := s.active
	s.active, s.spare = s.spare, t
	lastIndex := len(s.encoders) - 1
	p := &piece{createdAt: time.Now(), encoder: s.encoders[lastIndex], encodingDone: make(chan struct{}), uploadDone: make(chan struct{})}
	s.encoders = s.encoders[:lastIndex]
	p.encoder.data = s.takeArena() // never fails: of three arenas, the table and another upload use at most two
	p.part.segmentNumber = s.pieceCount
	s.pieceCount++
	s.pending = append(s.pending, p)
	s.uploading = append(s.uploading, p)
	go func(done chan struct{}) {
		defer close(done)
		p.err = s.encodePiece(p, t)
		t.reset()
		close(p.encodingDone)
		if p.err == nil {
			p.err = s.upload(s.ctx, p, p.encoder.data)
		}
	}(p.uploadDone)
	if len(s.arenas) == 0 {
		<-p.encodingDone // need not check ctx, because encoding takes little time
		s.returnArena(t.arena)
		t.arena = nil
	}
	s.active.arena = s.takeArena()[:s.tableSize()]
	return nil
}

func (s *Store) encodePiece(p *piece, t *table) error {
	f, e := fileOf(s.format, s.writer, p.part.segmentNumber), p.encoder
	data, err := t.encode(&f, e.data, e.compressor, &e.bufs, s.opts.hooks.rangeBytes)
	if err != nil {
		return err
	}
	e.data = data
	footer, err := footerOf(f, data)
	if err != nil {
		return err
	}
	p.part.size, p.part.bytes = int64(len(data)), bytes.Clone(footer)
	return nil
}

// upload creates the object of an encoded piece. Its name contains the writer's ID.
func (s *Store) upload(ctx context.Context, p *piece, data []byte) error {
	err := s.create(ctx, segmentName(s.writer, p.part.segmentNumber), data)
	if errors.Is(err, fs.ErrExist) {
		return nil // an earlier attempt created the object, because no other writer uses the name
	}
	return err
}

// waitUploads waits until at most limit segments are being uploaded. If an upload fails, waitUploads
// retries it once. mu must be held.
func (s *Store) waitUploads(ctx context.Context, limit int) error {
	for attempt := 0; len(s.uploading) > limit; attempt++ {
		p := s.uploading[0]
		if err := canceled.Wait(ctx, p.uploadDone); err != nil {
			return err
		}
		if p.err == nil || p.abandoned {
			s.returnArena(p.encoder.data)
			p.encoder.data = nil
			s.encoders, p.encoder = append(s.encoders, p.encoder), nil
			s.uploading = s.uploading[1:]
			attempt = -1
			continue
		}
		if attempt > 0 || p.part.size == 0 { // the size is 0 if encoding failed
			return p.err
		}
		p.err, p.uploadDone = nil, make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			p.err = s.upload(s.ctx, p, p.encoder.data)
		}(p.uploadDone)
	}
	return nil
}

// sealInline converts the active table, which must be small, to a piece whose data will be inside the
// record that commits the piece. mu must be held.
func (s *Store) sealInline(ctx context.Context) error {
	p, err := s.encodeInline(ctx, s.active)
	if err != nil {
		return err
	}
	s.active.reset()
	s.pending = append(s.pending, p)
	return nil
}

// encodeInline waits until an encoder is free, and encodes t. mu must be held.
func (s *Store) encodeInline(ctx context.Context, t *table) (p *piece, err error) {
	if err := s.waitUploads(ctx, maxUploads-1); err != nil {
		return nil, err
	}
	p = &piece{createdAt: time.Now(), part: recordPart{segmentNumber: s.pieceCount, inline: true}}
	s.pieceCount++
	f, e := fileOf(s.format, s.writer, p.part.segmentNumber), s.encoders[0]
	p.part.bytes, err = t.encode(&f, nil, e.compressor, &e.bufs, s.opts.hooks.rangeBytes)
	p.part.size = int64(len(p.part.bytes))
	return p, err
}
