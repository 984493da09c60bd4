package partd

import (
	"bufio"
	"context"
	"errors"
	"io"
)

// scanByOpen is Scan for a store that lists keys and cannot scan. Each value is
// the one that the key has when its turn comes.
func scanByOpen(ctx context.Context, store Partd, yield func(Chunk, error) bool) {
	const chunk = 256 << 10
	b := bufio.NewReaderSize(nil, chunk+1) // one more, to know which chunk is the last
	stopped := false
	emit := func(c Chunk) bool {
		stopped = !yield(c, nil)
		return !stopped
	}
	for info, err := range Keys(ctx, store) {
		if err == nil {
			err = emitValue(ctx, store, info, b, chunk, emit)
		}
		if stopped {
			return
		}
		if err != nil {
			yield(Chunk{}, err)
			return
		}
	}
}

// emitValue hands out the value of a key in chunks, until emit returns false.
func emitValue(ctx context.Context, store Partd, info KeyInfo, b *bufio.Reader, chunk int, emit func(Chunk) bool) (err error) {
	r, err := Open(ctx, store, info.Key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b.Reset(r)
	for offset := int64(0); ; {
		if ctx.Err() != nil { // what Get returned does not look
			return &Error{Op: "scan", Key: info.Key, HasKey: true, Err: context.Cause(ctx)}
		}
		data, err := b.Peek(chunk + 1)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return err
		}
		if last && offset == 0 && len(data) == 0 && info.Size > 0 {
			return nil // deleted meanwhile
		}
		if !last {
			data = data[:chunk]
		}
		if !emit(Chunk{Key: info.Key, Offset: offset, Data: data, Last: last}) || last {
			return nil
		}
		offset += int64(len(data))
		if _, err := b.Discard(len(data)); err != nil {
			return err
		}
	}
}

// statByKeys is Stat for a store that lists keys and cannot describe itself.
func statByKeys(ctx context.Context, store Partd) (Stats, error) {
	var st Stats
	for info, err := range Keys(ctx, store) {
		if err != nil {
			return Stats{}, err
		}
		st.Keys++
		st.Bytes += info.Size
	}
	if m, ok := store.(MemoryUser); ok {
		st.Memory = m.MemoryUsed()
	}
	return st, nil
}
