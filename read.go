package partd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/ledger"
)

// Abilities beyond the methods of [Partd] are interfaces that a store may have, each
// followed by a function that works on any store. Where a store lacks an ability,
// Open falls back to Get, Has to Open and Keys, Scan to Keys and Open, ScanPart to a choice of what these
// yield, and Stat to the sum of Keys; the others, and these where that is lacking too, return an error that wraps
// errors.ErrUnsupported. A layer has every ability, and passes it on by these
// functions, so that it can what the store beneath it can.

// KeyInfo describes a key.
type KeyInfo struct {
	Key  string
	Size int64 // length of the key's value in bytes
}

// Lister is a store that can list its keys.
type Lister interface {
	// Keys yields each key once, in the store's own order. After an error it
	// yields nothing more.
	Keys(ctx context.Context) iter.Seq2[KeyInfo, error]
}

// Keys yields each key once with its size; see [Lister].
func Keys(ctx context.Context, store Partd) iter.Seq2[KeyInfo, error] {
	if s, ok := store.(Lister); ok {
		return s.Keys(ctx)
	}
	return func(yield func(KeyInfo, error) bool) { yield(KeyInfo{}, unsupported("keys", store)) }
}

// Opener is a store that can stream a value.
type Opener interface {
	// Open returns a reader of the value that the key has now. The caller
	// closes it.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// Open returns a reader of a key's value; see [Opener]. If the store cannot stream, it
// reads the whole value with Get.
func Open(ctx context.Context, store Partd, key string) (io.ReadCloser, error) {
	if s, ok := store.(Opener); ok {
		return s.Open(ctx, key)
	}
	if store == nil {
		return nil, unsupported("open", store)
	}
	values, err := store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(values[0])), nil
}

// Rewinder is a reader that can begin anew. What [Opener] returns may be one: it
// then reads the same value again, whatever was changed since.
type Rewinder interface {
	Rewind() error
}

// Chunk is a piece of a key's value, as yielded by Scan.
type Chunk struct {
	Key    string
	Offset int64  // where in the value Data begins, in bytes
	Data   []byte // valid until the next step of the iteration, not to be changed
	Last   bool   // no more of this key follows
}

// Scanner is a store that can stream everything that it holds.
type Scanner interface {
	// Scan yields every key with its whole value as chunks, a key's chunks
	// together and in order, keys in the store's own order, in bounded memory,
	// from a snapshot taken at the start where the store can. A key with an
	// empty value yields one empty chunk. After an error it yields nothing more.
	Scan(ctx context.Context) iter.Seq2[Chunk, error]
}

// Scan yields every key with its whole value; see [Scanner]. On a store that cannot
// scan it lists the keys and opens each, which is no snapshot.
func Scan(ctx context.Context, store Partd) iter.Seq2[Chunk, error] {
	if s, ok := store.(Scanner); ok {
		return s.Scan(ctx)
	}
	return func(yield func(Chunk, error) bool) {
		if _, ok := store.(Lister); !ok {
			yield(Chunk{}, unsupported("scan", store))
			return
		}
		scanByOpen(ctx, store, 0, 1, yield)
	}
}

// MaxParts is the largest number of parts that [ScanPart] divides a store into.
const MaxParts = 1 << 16

// PartScanner is a store that can stream a part of its keys without reading the
// others.
type PartScanner interface {
	// ScanPart yields what Scan yields, of the keys of one part alone. Parts are
	// numbered from 0 to parts−1, and parts is from 1 to [MaxParts]. While nothing
	// changes, the parts of one store are disjoint and together complete, whoever
	// asks, and however often the store was opened. Which part a key belongs to is
	// the store's own affair: two stores, or two numbers of parts, divide the same
	// keys differently.
	ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error]
}

// ScanPart yields the keys of one part of a store with their whole values, so that
// several readers read each key once between them; see [PartScanner]. What the parts
// hold adds up to what the store holds, in keys, in bytes and in their ledgers.
//
// On a store that cannot do so it scans everything and leaves out the other parts,
// or, where it cannot scan either, lists the keys and opens those of the part. Which
// those are is the same in every process and in every version of this package.
func ScanPart(ctx context.Context, store Partd, part, parts int) iter.Seq2[Chunk, error] {
	if err := CheckPart(part, parts); err != nil {
		return failedScan(err)
	}
	if s, ok := store.(PartScanner); ok {
		return s.ScanPart(ctx, part, parts)
	}
	if parts == 1 {
		return Scan(ctx, store)
	}
	return func(yield func(Chunk, error) bool) {
		_, lists := store.(Lister)
		_, scans := store.(Scanner)
		if lists && !scans {
			scanByOpen(ctx, store, part, parts, yield)
			return
		}
		mine := false
		for c, err := range Scan(ctx, store) {
			if err == nil && c.Offset == 0 { // each key begins once
				mine = keyPart(c.Key, parts) == part
			}
			if (err != nil || mine) && !yield(c, err) {
				return
			}
		}
	}
}

// CheckPart is for authors of stores: it returns an error unless part is one of parts.
func CheckPart(part, parts int) error {
	if parts < 1 || parts > MaxParts || part < 0 || part >= parts {
		return &Error{Op: "scan", Err: fmt.Errorf(
			"part %d of %d: parts are numbered from 0, and there are 1 to %d", part, parts, MaxParts)}
	}
	return nil
}

// keyPart returns the part of a key in stores that know none of their own. Processes
// of different versions may share a store: it must never change. It is 64-bit
// FNV-1a, whose bits are mixed, since its last one is no more than the parity of
// the key's bytes, and its first ones hardly differ between short keys.
func keyPart(key string, parts int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return hashPart(h^h>>31, parts)
}

// hashPart divides the range of a hash into parts of the same length.
func hashPart(hash uint64, parts int) int {
	part, _ := bits.Mul64(hash, uint64(parts))
	return int(part)
}

// failedScan yields an error and nothing else.
func failedScan(err error) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) { yield(Chunk{}, err) }
}

// scanByOpen is Scan, of one part, for a store that lists keys and cannot scan. Each
// value is the one that the key has when its turn comes.
func scanByOpen(ctx context.Context, store Partd, part, parts int, yield func(Chunk, error) bool) {
	b := bufio.NewReaderSize(nil, scanChunk+1) // one more, to know which chunk is the last
	for info, err := range Keys(ctx, store) {
		if err == nil && keyPart(info.Key, parts) != part {
			continue
		}
		more := true
		if err == nil {
			more, err = yieldValue(ctx, store, info, b, yield)
		}
		if err != nil && more {
			yield(Chunk{}, err)
		}
		if err != nil || !more {
			return
		}
	}
}

const scanChunk = 256 << 10

// yieldValue yields the value of a key in chunks, and reports whether to go on.
func yieldValue(ctx context.Context, store Partd, info KeyInfo, b *bufio.Reader, yield func(Chunk, error) bool) (more bool, err error) {
	r, err := Open(ctx, store, info.Key)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b.Reset(r)
	for offset, last := int64(0), false; !last; {
		if ctx.Err() != nil { // what Get returned does not look
			return true, &Error{Op: "scan", Key: info.Key, HasKey: true, Err: canceled.Err(ctx)}
		}
		data, err := b.Peek(scanChunk + 1)
		last = err == io.EOF // an error that wraps it is of a connection
		if err != nil && !last {
			return true, err
		}
		if last && offset == 0 && len(data) == 0 && info.Size > 0 {
			return true, nil // deleted meanwhile
		}
		data = data[:min(len(data), scanChunk)]
		if !yield(Chunk{Key: info.Key, Offset: offset, Data: data, Last: last}, nil) {
			return false, nil
		}
		offset += int64(len(data))
		if _, err := b.Discard(len(data)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// Stats describes a store as a whole.
type Stats struct {
	Keys   int64 // number of keys
	Bytes  int64 // sum of the lengths of their values, as the caller of this layer sees them
	Memory int64 // bytes of memory that the store holds for its data, 0 if it does not count them
	Disk   int64 // bytes of its files, 0 if it has none

	// Changes is how many appends and other changes there were through a
	// server since it began, 0 where there is none.
	Changes int64
}

// Statter is a store that can describe itself.
type Statter interface {
	// Stat counts keys and bytes.
	Stat(ctx context.Context) (Stats, error)
}

// Stat counts keys and bytes; see [Statter]. On a store that cannot describe itself
// it lists the keys.
func Stat(ctx context.Context, store Partd) (Stats, error) {
	if s, ok := store.(Statter); ok {
		return s.Stat(ctx)
	}
	if _, ok := store.(Lister); !ok {
		return Stats{}, unsupported("stat", store)
	}
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

// Checked is the account of what could be read.
type Checked struct {
	Records  int64 // all that was ever appended or set
	Segments int64 // parts of the store that are complete

	// Sum is the sum modulo 2^128 of xxh3-128 of (uvarint length of the key, key, value)
	// of all records, whatever their order. nil: the store has none to give.
	Sum *ledger.Sum128
}

// Checker is a store that can compare what it holds with its checksums.
type Checker interface {
	// Check reads everything. It goes on after damage, and its error joins a
	// [CorruptError] for each place.
	Check(ctx context.Context) (Checked, error)
}

// Check compares what a store holds, or a store beneath it, with its checksums; see
// [Checker].
func Check(ctx context.Context, store Partd) (Checked, error) {
	for s := range Layers(store) {
		if c, ok := s.(Checker); ok {
			return c.Check(ctx)
		}
	}
	return Checked{}, &Error{Op: "check", Err: fmt.Errorf("%T keeps no checksums: %w", store, errors.ErrUnsupported)}
}

// MemoryUser is a store that knows how much memory it takes, at any time and at
// no cost. [Buffer] asks its fast store for it.
type MemoryUser interface {
	// MemoryUsed returns the bytes held for data and for what keeps it in order.
	MemoryUsed() int64
}

// ReaderMemory returns what an open reader of a store takes, and a listing, in bytes:
// about, where the store does not know.
func ReaderMemory(store Partd) (reader, listing int64) {
	if s, ok := store.(interface {
		ReaderMemory() (reader, listing int64)
	}); ok {
		return s.ReaderMemory()
	}
	return 64 << 10, 1 << 20
}

// Unwrapper is a layer over another store. Unwrap is for looking only: an
// operation on what it returns skips the layer, and finds compressed or stale
// bytes.
type Unwrapper interface {
	Unwrap() Partd
}

// Layers yields a store, the store beneath it, and so on, down to one that is not a
// layer.
func Layers(store Partd) iter.Seq[Partd] {
	return func(yield func(Partd) bool) {
		for layer, ok := store.(Unwrapper); yield(store) && ok; layer, ok = store.(Unwrapper) {
			store = layer.Unwrap()
		}
	}
}
