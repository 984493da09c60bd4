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

	"github.com/go-partd/partd/internal/base/canceled"
)

// A store's optional abilities are interfaces, each followed by a function that works on any store.
// If the store lacks the method, or the method returns an error that wraps errors.ErrUnsupported and
// has no effect, the function uses other methods instead. If that is impossible, it returns such an
// error. A layer implements every ability that reads or changes values by calling these functions on
// the store beneath it, as storekit.Layer does. So the layer supports whatever that store supports.
// As finds the other abilities of the store beneath.

// KeyInfo describes a key.
type KeyInfo struct {
	Key  string
	Size int64 // length of the key's value in bytes
}

// Lister is a store that can list its keys.
type Lister interface {
	// Keys yields each key once, in any order. An error ends the iteration.
	Keys(ctx context.Context) iter.Seq2[KeyInfo, error]
}

// Keys yields each key once with its size; see [Lister].
func Keys(ctx context.Context, store Partd) iter.Seq2[KeyInfo, error] {
	if s, ok := store.(Lister); ok {
		return s.Keys(ctx)
	}
	return failed[KeyInfo](unsupportedError("keys", store))
}

// Opener is a store that can stream a value.
type Opener interface {
	// Open returns a reader of the key's current value. The caller must close it.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// Open returns a reader of a key's value; see [Opener]. If the store cannot stream, Open
// reads the whole value with Get.
func Open(ctx context.Context, store Partd, key string) (io.ReadCloser, error) {
	if s, ok := store.(Opener); ok {
		if r, err := s.Open(ctx, key); !errors.Is(err, errors.ErrUnsupported) {
			return r, err
		}
	}
	if store == nil {
		return nil, unsupportedError("open", store)
	}
	values, err := store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(values[0])), nil
}

// Chunk is a piece of a key's value, as yielded by Scan. It can begin and end anywhere, even within what
// one Append added or within a record: [Values] turns chunks into readers of whole values.
type Chunk struct {
	Key    string
	Offset int64  // position of Data in the value, in bytes
	Data   []byte // valid until the next iteration step; must not be modified
	Last   bool   // this is the key's last chunk
}

// Scanner is a store that can stream all its keys and values.
type Scanner interface {
	// Scan yields every key with its whole value as chunks, in bounded memory. It
	// yields the chunks of a key together and in order, and the keys in any order.
	// If the store can, it scans a snapshot taken at the start. A key with an empty
	// value yields one empty chunk. An error ends the iteration.
	Scan(ctx context.Context) iter.Seq2[Chunk, error]
}

// Scan yields every key with its whole value; see [Scanner]. If the store is not a Scanner,
// Scan lists the keys and opens one after another, which does not yield a snapshot.
func Scan(ctx context.Context, store Partd) iter.Seq2[Chunk, error] {
	fallback := scanByOpen(ctx, store, 0, 1)
	if s, ok := store.(Scanner); ok {
		return unlessUnsupported(s.Scan(ctx), fallback)
	}
	return fallback
}

// MaxParts is the maximum number of parts that [ScanPart] divides a store into.
const MaxParts = 1 << 16

// PartScanner is a store that can stream a part of its keys without reading the rest.
type PartScanner interface {
	// ScanPart is like Scan, but yields only the keys in one part. Parts are
	// numbered from 0 to parts−1, and parts is between 1 and [MaxParts]. While the
	// store does not change, each key is in exactly one part, for every caller, even
	// after the store is reopened. The store chooses the part of each key, so another
	// store, or another number of parts, may divide the same keys differently.
	ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error]
}

// ScanPart yields the chunks of all values in one part of a store, so that several readers can share a scan; see
// [PartScanner]. To read records, see [Values]. The numbers of keys and bytes, and the checksums (see [Sum]), of all
// parts add up to those of the whole store.
//
// If the store cannot scan parts, ScanPart scans everything and skips the other parts. If it
// cannot scan at all, ScanPart lists the keys and opens only the part's keys. In both cases, a key
// is in the same part in every process and in every version of this package.
func ScanPart(ctx context.Context, store Partd, part, parts int) iter.Seq2[Chunk, error] {
	if err := checkPart(part, parts); err != nil {
		return failed[Chunk](err)
	}
	s, ok := store.(PartScanner)
	if !ok {
		return filterPart(ctx, store, part, parts)
	}
	return unlessUnsupported(s.ScanPart(ctx, part, parts), func(yield func(Chunk, error) bool) {
		filterPart(ctx, store, part, parts)(yield) // not called earlier, because it may call s.Scan
	})
}

// filterPart scans one part of a store that cannot scan parts.
func filterPart(ctx context.Context, store Partd, part, parts int) iter.Seq2[Chunk, error] {
	if parts == 1 {
		return Scan(ctx, store)
	}
	fallback := scanByOpen(ctx, store, part, parts)
	s, ok := store.(Scanner)
	if !ok {
		return fallback
	}
	return unlessUnsupported(func(yield func(Chunk, error) bool) {
		inPart := false
		for c, err := range s.Scan(ctx) {
			if err == nil && c.Offset == 0 { // the key's first chunk
				inPart = keyPart(c.Key, parts) == part
			}
			if (err != nil || inPart) && !yield(c, err) {
				return
			}
		}
	}, fallback)
}

// unlessUnsupported yields chunks or, if they begin with an error that wraps errors.ErrUnsupported,
// the chunks of the second iterator.
func unlessUnsupported(chunks, fallback iter.Seq2[Chunk, error]) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		hasBegun, unsupported := false, false
		chunks(func(c Chunk, err error) bool {
			unsupported = err != nil && !hasBegun && errors.Is(err, errors.ErrUnsupported)
			hasBegun = true
			return !unsupported && yield(c, err)
		})
		if unsupported {
			fallback(yield)
		}
	}
}

// keyPart returns the number of the part that a key is in, for stores without their own ScanPart.
// The function must never change, because processes of different versions can share a store. The
// hash is 64-bit FNV-1a, followed by a mixing step: hashPart uses the high bits, which in FNV-1a
// hardly vary between short keys.
func keyPart(key string, parts int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return hashPart(h^h>>31, parts)
}

// hashPart divides all hashes into equal ranges and returns the number of the range that contains
// hash.
func hashPart(hash uint64, parts int) int {
	part, _ := bits.Mul64(hash, uint64(parts))
	return int(part)
}

// failed returns an iterator that only yields an error.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) { yield(*new(T), err) }
}

// scanByOpen scans one part of a store by opening each key of the part in turn.
func scanByOpen(ctx context.Context, store Partd, part, parts int) iter.Seq2[Chunk, error] {
	if _, ok := store.(Lister); !ok {
		return failed[Chunk](unsupportedError("scan", store))
	}
	return func(yield func(Chunk, error) bool) {
		b := bufio.NewReaderSize(nil, scanChunk+1) // the extra byte shows whether a chunk is the last
		for info, err := range Keys(ctx, store) {
			if err == nil && keyPart(info.Key, parts) != part {
				continue
			}
			if err == nil {
				err = yieldValue(ctx, store, info, b, yield)
			}
			if err != nil {
				if !errors.Is(err, errStopped) {
					yield(Chunk{}, err)
				}
				return
			}
		}
	}
}

const scanChunk = 256 << 10

var errStopped = errors.New("the caller stopped the scan")

// yieldValue yields the value of a key in chunks. It returns errStopped if yield returns false.
func yieldValue(ctx context.Context, store Partd, info KeyInfo, b *bufio.Reader, yield func(Chunk, error) bool) (err error) {
	r, err := Open(ctx, store, info.Key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b.Reset(r)
	for offset, last := int64(0), false; !last; {
		if ctx.Err() != nil { // the reader that Open returns may not check ctx
			return &Error{Op: "scan", Key: info.Key, HasKey: true, Err: canceled.Err(ctx)}
		}
		data, err := b.Peek(scanChunk + 1)
		last = err == io.EOF // errors.Is would be wrong: a wrapped io.EOF means a broken connection
		if err != nil && !last {
			return err
		}
		if last && offset == 0 && len(data) == 0 && info.Size > 0 {
			return nil // the key was deleted since it was listed
		}
		data = data[:min(len(data), scanChunk)]
		if !yield(Chunk{Key: info.Key, Offset: offset, Data: data, Last: last}, nil) {
			return errStopped
		}
		offset += int64(len(data))
		if _, err := b.Discard(len(data)); err != nil {
			return err
		}
	}
	return nil
}

// Stats describes a store as a whole.
type Stats struct {
	Keys   int64 // number of keys
	Bytes  int64 // total length of their values, as Get returns them
	Memory int64 // bytes of memory that hold the store's data, or 0 if unknown
	Disk   int64 // bytes of the store's files, or 0 if it has none

	// Changes counts the appends and other changes made through a server since it
	// started. It is 0 without a server.
	Changes int64
}

// Statter is a store that can describe itself.
type Statter interface {
	// Stat counts keys and bytes.
	Stat(ctx context.Context) (Stats, error)
}

// Stat counts keys and bytes; see [Statter]. If the store is not a Statter, Stat lists the keys.
func Stat(ctx context.Context, store Partd) (Stats, error) {
	if s, ok := store.(Statter); ok {
		if st, err := s.Stat(ctx); !errors.Is(err, errors.ErrUnsupported) {
			return st, err
		}
	}
	if _, ok := store.(Lister); !ok {
		return Stats{}, unsupportedError("stat", store)
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

// CheckResult describes the data that a check could read.
type CheckResult struct {
	Records  int64 // number of records ever appended or set
	Segments int64 // number of complete data segments

	// Sum is the sum of one hash for each record: of the key's length as a uvarint, the key and the record.
	// Sum is nil if the store does not compute it.
	Sum *Sum
}

// Checker is a store that can verify its data against checksums.
type Checker interface {
	// Check reads all data, even after it finds damage. It returns an error that joins one [CorruptError]
	// for each damaged place.
	Check(ctx context.Context) (CheckResult, error)
}

// Check verifies the checksums of the store, or of a store beneath it; see [Checker].
func Check(ctx context.Context, store Partd) (CheckResult, error) {
	if c, ok := As[Checker](store); ok {
		return c.Check(ctx)
	}
	return CheckResult{}, &Error{Op: "check", Err: fmt.Errorf("%T keeps no checksums: %w", store, errors.ErrUnsupported)}
}

// MemoryUser is a store that can report its memory usage at almost no cost. If the fast store
// of a [Buffer], or a store beneath it, is a MemoryUser, the Buffer applies its limit to the
// reported usage instead of an estimate. A layer that keeps data in memory must implement it.
type MemoryUser interface {
	// MemoryUsed returns the bytes of memory used for data and its index.
	MemoryUsed() int64
}

// Unwrapper is a layer over another store. Use Unwrap only to inspect the store beneath:
// operations on it bypass the layer and see compressed or stale bytes.
type Unwrapper interface {
	Unwrap() Partd
}

// As returns the first T among store and the stores beneath it. Use it only for abilities that
// neither read nor change values, such as [Batcher] and [MemoryUser]: a layer need not implement these. Any
// other ability of a store beneath would bypass the layer. This includes [SessionGuard]: its tokens must
// belong to the sessions of the layer's own [Applier]. [Check] uses As, because checksums cover the bytes
// beneath the layer.
func As[T any](store Partd) (found T, ok bool) {
	for layer, isLayer := store.(Unwrapper); ; layer, isLayer = store.(Unwrapper) {
		found, ok = store.(T)
		if ok || !isLayer {
			return found, ok
		}
		store = layer.Unwrap()
	}
}

// Haser is a store that can look up a key without reading its value.
type Haser interface {
	// HasKey reports whether the key exists.
	HasKey(ctx context.Context, key string) (bool, error)
}

// Has reports whether a key exists; see [Haser]. If the store is not a Haser, Has opens the key.
// If the value is empty, Has lists all keys, because an existing key can have an empty value.
func Has(ctx context.Context, store Partd, key string) (bool, error) {
	if s, ok := store.(Haser); ok {
		if exists, err := s.HasKey(ctx, key); !errors.Is(err, errors.ErrUnsupported) {
			return exists, err
		}
	}
	r, err := Open(ctx, store, key)
	if err != nil {
		return false, err
	}
	n, err := io.ReadFull(r, make([]byte, 1))
	if err == io.EOF {
		err = nil
	}
	err = errors.Join(err, r.Close())
	if n > 0 || err != nil {
		return err == nil, err
	}
	for info, err := range Keys(ctx, store) {
		if err != nil || info.Key == key {
			return err == nil, err
		}
	}
	return false, nil
}
