package objstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// maxUploads is the maximum number of segments that are encoded or uploaded while a table is
// being filled.
const maxUploads = 2

// arenaCount is the number of arenas: one for the table being filled, and one for each upload. A
// table is encoded into another arena; then its own arena is free for the next table.
const arenaCount = maxUploads + 1

// encoder encodes one table at a time.
type encoder struct {
	compressor *segment.Compressor
	bufs       [2][]byte
	data       []byte // the segment being uploaded, in an arena
}

// piece is a segment that is not yet committed.
type piece struct {
	part         recordPart // its bytes are set after encoding
	createdAt    time.Time
	encoder      *encoder      // holds the data until the upload has ended
	encodingDone chan struct{} // closed when its table can be reused
	uploadDone   chan struct{} // closed when the upload succeeded, or failed with err
	err          error
	abandoned    bool // its append failed, so no record will refer to it
}

// allocateTables allocates the memory for appends.
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

// returnArena returns an arena for reuse. b may be a shortened slice of it, or nil.
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

// seal replaces the active table by an empty one, and encodes and uploads the full one in the
// background. It first waits until the previous table is encoded. mu must be held.
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
	p.encoder.data = s.takeArena() // of three arenas, the table uses one, and another upload at most one
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
			p.err = s.upload(p)
		}
	}(p.uploadDone)
	if len(s.arenas) == 0 {
		<-p.encodingDone // takes little time, because encoding makes no request
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

// upload creates the object of an encoded piece. No other writer uses its name.
func (s *Store) upload(p *piece) error {
	err := s.create(s.ctx, segmentName(s.writer, p.part.segmentNumber), p.encoder.data)
	if errors.Is(err, fs.ErrExist) {
		return nil // an earlier attempt created it
	}
	return err
}

// waitUploads waits until at most limit segments are being uploaded, waiting for the
// oldest first. It retries failed uploads. mu must be held.
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
		if attempt > 0 || p.part.size == 0 { // the retry failed, or encoding did
			return p.err
		}
		p.err, p.uploadDone = nil, make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			p.err = s.upload(p)
		}(p.uploadDone)
	}
	return nil
}

// sealInline converts the active table, which must be small, to a piece whose data will be
// inside the record that commits it. mu must be held.
func (s *Store) sealInline(ctx context.Context) error {
	if err := s.waitUploads(ctx, maxUploads-1); err != nil { // wait for a free encoder
		return err
	}
	p, err := s.encodeInline(s.active)
	if err != nil {
		return err
	}
	s.active.reset()
	s.pending = append(s.pending, p)
	return nil
}

func (s *Store) encodeInline(t *table) (p *piece, err error) {
	p = &piece{createdAt: time.Now(), part: recordPart{segmentNumber: s.pieceCount, inline: true}}
	s.pieceCount++
	f, e := fileOf(s.format, s.writer, p.part.segmentNumber), s.encoders[0]
	p.part.bytes, err = t.encode(&f, nil, e.compressor, &e.bufs, s.opts.hooks.rangeBytes)
	p.part.size = int64(len(p.part.bytes))
	return p, err
}
