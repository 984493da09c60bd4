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

// uploads encodes segments and uploads them in the background. buffer.mu guards its fields.
type uploads struct {
	*objects
	ctx        context.Context // canceled when the store is closed
	running    []*piece        // oldest first
	pieceCount uint64          // number of segments so far
	encoders   []*encoder      // unused encoders
	arenas     [][]byte        // unused arenas
}

// allocate allocates encoders, and arenas of the given size.
func (u *uploads) allocate(size int64) (err error) {
	for range maxUploads {
		e := &encoder{}
		e.compressor, err = segment.NewCompressor(0)
		if err != nil {
			return err
		}
		u.encoders = append(u.encoders, e)
	}
	for range arenaCount {
		arena, err := offheap.Allocate(int(size))
		if err != nil {
			return err
		}
		u.arenas = append(u.arenas, arena)
	}
	return nil
}

func (u *uploads) takeArena() []byte {
	lastIndex := len(u.arenas) - 1
	arena := u.arenas[lastIndex]
	u.arenas = u.arenas[:lastIndex]
	return arena
}

// returnArena returns an arena for reuse. b is a slice that starts at the arena's beginning, or nil.
func (u *uploads) returnArena(b []byte) {
	if b != nil {
		u.arenas = append(u.arenas, b[:cap(b)])
	}
}

func (u *uploads) release() {
	for _, e := range u.encoders {
		u.returnArena(e.data)
	}
	for _, a := range u.arenas {
		offheap.Release(a)
	}
	u.encoders, u.arenas = nil, nil
}

// awaitCanceled waits until all uploads, whose context was canceled, have ended.
func (u *uploads) awaitCanceled() {
	for _, p := range u.running {
		<-p.uploadDone
		u.encoders = append(u.encoders, p.encoder)
	}
	u.running = nil
}

// makeRoom waits until another table can be encoded and uploaded.
func (u *uploads) makeRoom(ctx context.Context) error {
	if err := u.wait(ctx, maxUploads-1); err != nil {
		return err
	}
	if n := len(u.running); n > 0 {
		return canceled.Wait(ctx, u.running[n-1].encodingDone)
	}
	return nil
}

// start encodes and uploads t in the background. It resets t once it is encoded.
func (u *uploads) start(t *table) *piece {
	lastIndex := len(u.encoders) - 1
	p := &piece{createdAt: time.Now(), encoder: u.encoders[lastIndex]}
	p.encodingDone, p.uploadDone = make(chan struct{}), make(chan struct{})
	u.encoders = u.encoders[:lastIndex]
	p.encoder.data = u.takeArena() // never fails: of three arenas, the table and another upload use at most two
	p.part.segmentNumber = u.pieceCount
	u.pieceCount++
	u.running = append(u.running, p)
	go func(done chan struct{}) {
		defer close(done)
		p.err = u.encode(p, t)
		t.reset()
		close(p.encodingDone)
		if p.err == nil {
			p.err = u.upload(u.ctx, p, p.encoder.data)
		}
	}(p.uploadDone)
	return p
}

func (u *uploads) encode(p *piece, t *table) error {
	f, e := fileOf(u.format, u.writer, p.part.segmentNumber), p.encoder
	data, err := t.encode(&f, e.data, e.compressor, &e.bufs, u.opts.hooks.rangeBytes)
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
func (u *uploads) upload(ctx context.Context, p *piece, data []byte) error {
	err := u.create(ctx, segmentName(u.writer, p.part.segmentNumber), data)
	if errors.Is(err, fs.ErrExist) {
		return nil // an earlier attempt created the object, because no other writer uses the name
	}
	return err
}

// wait waits until at most limit segments are being uploaded. If an upload fails, wait retries it once.
func (u *uploads) wait(ctx context.Context, limit int) error {
	for attempt := 0; len(u.running) > limit; attempt++ {
		p := u.running[0]
		if err := canceled.Wait(ctx, p.uploadDone); err != nil {
			return err
		}
		if p.err == nil || p.abandoned {
			u.returnArena(p.encoder.data)
			p.encoder.data = nil
			u.encoders, p.encoder = append(u.encoders, p.encoder), nil
			u.running = u.running[1:]
			attempt = -1
			continue
		}
		if attempt > 0 || p.part.size == 0 { // the size is 0 if encoding failed
			return p.err
		}
		p.err, p.uploadDone = nil, make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			p.err = u.upload(u.ctx, p, p.encoder.data)
		}(p.uploadDone)
	}
	return nil
}

// encodeInline waits until an encoder is free and encodes t.
func (u *uploads) encodeInline(ctx context.Context, t *table) (p *piece, err error) {
	if err := u.wait(ctx, maxUploads-1); err != nil {
		return nil, err
	}
	p = &piece{createdAt: time.Now(), part: recordPart{segmentNumber: u.pieceCount, inline: true}}
	u.pieceCount++
	f, e := fileOf(u.format, u.writer, p.part.segmentNumber), u.encoders[0]
	p.part.bytes, err = t.encode(&f, nil, e.compressor, &e.bufs, u.opts.hooks.rangeBytes)
	p.part.size = int64(len(p.part.bytes))
	return p, err
}
