package logstore

import (
	"context"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// encoder encodes operations into batches. Its fields do not change while the store is writable, so no
// lock guards them. If Open found the disk full, batches is nil until a Drop makes the store writable.
type encoder struct {
	format    *segment.Format
	tables    *memtables
	blobs     *blobWriter
	blobBytes int         // values of at least this length are stored in blob files
	maxBatch  int         // maximum bytes of a write-ahead record; a larger operation writes segments directly
	batches   chan *batch // unused batches
}

// encodeAppend fills a batch with the entries of an Append. It writes large values to a blob
// file, and only a reference to them into the batch.
func (enc *encoder) encodeAppend(b *batch, entries []partd.Entry) error {
	// Hash all keys first: in a short loop, the processor overlaps many memory reads.
	hashes := b.hashes
	for i := range entries {
		hashes = append(hashes, enc.format.Hash(entries[i].Key))
	}
	b.hashes = hashes
	for i := 0; i < len(entries); i++ {
		i += b.addShort(entries[i:], b.hashes[i:], enc.tables.bits, enc.blobBytes)
		if i == len(entries) {
			break
		}
		if e := &entries[i]; len(e.Value) > 0 {
			if err := enc.encodeEntry(b, segment.KindAppend, e.Key, e.Value, b.hashes[i]); err != nil {
				return err
			}
		}
	}
	b.checksum()
	return nil
}

func (enc *encoder) encodeEntry(b *batch, kind segment.Kind, key string, value []byte, h uint64) error {
	if len(value) < enc.blobBytes {
		b.add(kind, key, value, h, enc.tables.bits)
		return nil
	}
	if kind == segment.KindSet {
		b.add(segment.KindSet, key, nil, h, enc.tables.bits)
	}
	ref, err := enc.blobs.write(value)
	if err != nil {
		return err
	}
	var piece ledger.Piece
	piece.Start(key)
	piece.Add(value)
	b.ledger.AddPiece(&piece)
	start := len(b.buf)
	buf := segment.AppendEntryHead(b.buf, segment.KindBlob, key, segment.BlobRefLen)
	b.push(start, ref.Append(buf), h, enc.tables.bits)
	b.blobs = append(b.blobs, ref)
	b.maxBlobNo = max(b.maxBlobNo, ref.File)
	return nil
}

// maxEncodedLen returns an upper bound on the memory for a batch of entries, in bytes.
func (enc *encoder) maxEncodedLen(entries []partd.Entry) int64 {
	n := int64(recordPrefix)
	for i := range entries {
		v := len(entries[i].Value)
		if v >= enc.blobBytes {
			v = segment.BlobRefLen
		}
		n += int64(len(entries[i].Key)) + int64(v) + 8 + entryOverhead
	}
	return n
}

func (enc *encoder) takeBatch(ctx context.Context) (*batch, error) {
	b, err := canceled.Receive(ctx, enc.batches)
	if err != nil {
		return b, err
	}
	b.reset()
	return b, nil
}

func (enc *encoder) putBatch(b *batch) {
	if b.memory() > enc.maxBatch+enc.maxBatch/2 {
		b = &batch{}
	}
	enc.batches <- b
}

// allocate creates the batches unless they exist.
func (enc *encoder) allocate() {
	if enc.batches != nil {
		return
	}
	enc.tables.bits, _ = tableShape(enc.tables.bytes)
	enc.batches = make(chan *batch, 4)
	for range cap(enc.batches) {
		enc.batches <- &batch{}
	}
}
