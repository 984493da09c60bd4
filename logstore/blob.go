package logstore

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd/internal/segment"
)

// writeBlob writes a large value from the caller's slice.
func (s *Store) writeBlob(value []byte) (segment.BlobRef, error) {
	table := segment.BlobTable(value)
	f, off, err := s.reserveBlob(int64(len(value) + len(table)))
	if err != nil {
		return segment.BlobRef{}, err
	}
	ref := segment.BlobRef{File: f.Number, Off: off, Length: int64(len(value))}
	ref.CRC = f.Salted(f.Number, off, table)
	if _, err = f.f.WriteAt(value, off); err == nil {
		_, err = f.f.WriteAt(table, off+int64(len(value)))
	}
	if err != nil {
		s.giveBackBlobs([]segment.BlobRef{ref})
		return segment.BlobRef{}, err
	}
	f.dirty.Store(true) // after the write: a sync that ran meanwhile did not cover it
	return ref, nil
}

// reserveBlob returns where to write n bytes.
func (s *Store) reserveBlob(n int64) (*dataFile, int64, error) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	f := s.blobFile
	if f == nil || f.end >= s.fileSize() {
		var err error
		if f, err = s.catalog.add(segment.BlobFile); err != nil {
			return nil, 0, err
		}
		s.blobFile = f
	}
	off := f.end
	f.end += n
	s.dataBytes.Add(n)
	return f, off, nil
}

// giveBackBlobs gives back the room of large values that no record refers to.
// life is held.
func (s *Store) giveBackBlobs(refs []segment.BlobRef) {
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	for i := range refs {
		r := &refs[len(refs)-1-i]
		f, n := s.catalog.files.file(r.File, segment.BlobFile), r.Stored()
		s.dataBytes.Add(-n)
		if f.end != r.Off+n { // another is being written behind it
			s.punch(f.f, r.Off, n)
			continue
		}
		f.end = r.Off
		s.cutBack(f)
	}
}

var errNoBlobFile = errors.New("which the store does not have")

// openBlob makes r read the large value that an entry refers to.
func (fs *fileSet) openBlob(encoded []byte, r *segment.BlobReader) error {
	ref, err := segment.ParseBlobRef(encoded)
	if err != nil {
		return err
	}
	f := fs.file(ref.File, segment.BlobFile)
	if f == nil {
		return fmt.Errorf("an entry refers to blob file %d, %w", ref.File, errNoBlobFile)
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	return r.Open(&f.File, size, ref)
}

// eachBlock calls use for each block of the large value that an entry refers to,
// valid during the call.
func (fs *fileSet) eachBlock(encoded []byte, use func(b []byte) error) error {
	var r segment.BlobReader
	if err := fs.openBlob(encoded, &r); err != nil {
		return err
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = use(b)
		}
		if err != nil {
			return err
		}
	}
}

// account adds an entry to a ledger, unless it is a blob, whose bytes are
// elsewhere.
func account(l *Ledger, e *segment.Entry) {
	if e.Kind != segment.KindBlob {
		l.addEntry(e.Kind, e.Raw[e.Head:], len(e.Value))
	}
}

// accountAll adds an entry to a ledger, also a blob, which takes reading it.
func (fs *fileSet) accountAll(l *Ledger, e *segment.Entry) error {
	if e.Kind != segment.KindBlob {
		account(l, e)
		return nil
	}
	var piece pieceHasher
	piece.start(e.Key)
	err := fs.eachBlock(e.Value, func(b []byte) error {
		piece.write(b)
		return nil
	})
	if err == nil {
		piece.addTo(l)
	}
	return err
}
