package logstore

import (
	"errors"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// blobWriter writes large values to blob files.
type blobWriter struct {
	catalog  *catalog
	segments *segmentList

	// mu guards file and the ends of all blob files. Lock order: Store.mu, mu, catalog.mu.
	mu   sync.Mutex
	file *dataFile // file to write the next blob to
}

func (bs *blobWriter) write(value []byte) (segment.BlobRef, error) {
	table := segment.BlobTable(value)
	f, off, err := bs.reserve(int64(len(value) + len(table)))
	if err != nil {
		return segment.BlobRef{}, err
	}
	ref := segment.BlobRef{File: f.Number, Off: off, Length: int64(len(value))}
	ref.CRC = f.SaltedCRC(f.Number, off, table)
	_, err = f.f.WriteAt(value, off)
	if err == nil {
		_, err = f.f.WriteAt(table, off+int64(len(value)))
	}
	if err != nil {
		bs.release([]segment.BlobRef{ref})
		return segment.BlobRef{}, err
	}
	f.dirty.Store(true) // set after the write, because a sync during the write resets dirty
	return ref, nil
}

func (bs *blobWriter) reserve(n int64) (*dataFile, int64, error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	f := bs.file
	if f == nil || f.end >= bs.segments.fileSize() {
		var err error
		f, err = bs.catalog.add(segment.BlobFile)
		if err != nil {
			return nil, 0, err
		}
		bs.file = f
	}
	off := f.end
	f.end += n
	bs.segments.size.Add(n)
	return f, off, nil
}

// release frees the space of large values that were written for an operation that failed or changed
// nothing. Store.lifeMu must be held.
func (bs *blobWriter) release(refs []segment.BlobRef) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for i := range refs {
		r := &refs[len(refs)-1-i]
		f, n := bs.catalog.files.file(r.File, segment.BlobFile), r.StoredLen()
		bs.segments.size.Add(-n)
		if f.end != r.Off+n { // another blob follows in the file
			bs.catalog.punch(f.f, r.Off, n)
			continue
		}
		f.end = r.Off
		bs.catalog.truncateTail(f)
	}
}

// openBlob opens a large value; encoded is the value of the entry that refers to it.
func (fs *fileSet) openBlob(encoded []byte, r *segment.BlobReader) error {
	ref, err := segment.ParseBlobRef(encoded)
	if err != nil {
		return err
	}
	f := fs.file(ref.File, segment.BlobFile)
	if f == nil {
		return &partd.CorruptError{
			Path: dataName("", segment.BlobFile, ref.File), Offset: -1,
			Err: errors.New("an entry refers to this file, but it is not part of the store"),
		}
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	return r.Open(&f.File, size, ref)
}

// eachBlock calls f for each block of a large value; encoded is the value of the entry that refers
// to it. A block is valid only during the call.
func (fs *fileSet) eachBlock(encoded []byte, f func(block []byte) error) error {
	var r segment.BlobReader
	if err := fs.openBlob(encoded, &r); err != nil {
		return err
	}
	return segment.EachBlock(&r, f)
}

// addInline adds an entry to a ledger. The entry must not refer to a large value.
func addInline(l *segment.Ledger, e *segment.Entry) {
	l.AddEntry(e.Kind, e.Raw[e.HashStart:], len(e.Value))
}

// addEntry adds an entry to a ledger. If the entry refers to a large value, it reads the value.
func (fs *fileSet) addEntry(l *segment.Ledger, e *segment.Entry) error {
	if e.Kind != segment.KindBlob {
		addInline(l, e)
		return nil
	}
	return fs.addBlob(l, e.Key, e.Value, ignoreData)
}

// addBlob adds a large value of a key to a ledger and calls f for each block of the value.
func (fs *fileSet) addBlob(l *segment.Ledger, key, encoded []byte, f func(block []byte) error) error {
	var piece ledger.Piece
	piece.Start(string(key))
	err := fs.eachBlock(encoded, func(b []byte) error {
		piece.Add(b)
		return f(b)
	})
	if err != nil {
		return err
	}
	l.AddPiece(&piece)
	return nil
}

func ignoreData([]byte) error { return nil }

// checkBlobs returns errNoRecord if an entry's large value is missing or damaged. A power loss can
// cause this if the value was not synced. checkBlobs returns read errors unchanged.
func (fs *fileSet) checkBlobs(entries []byte) error {
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return nil // the caller parses the entry again and reports the error
		}
		entries = entries[len(e.Raw):]
		if e.Kind != segment.KindBlob {
			continue
		}
		err = fs.eachBlock(e.Value, ignoreData)
		if errors.As(err, new(*partd.CorruptError)) {
			return errNoRecord
		}
		if err != nil {
			return err
		}
	}
	return nil
}
