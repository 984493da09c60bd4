package logstore

import (
	"io"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// keyStream yields the pieces of one key in order, splitting large pieces into blocks.
type keyStream struct {
	view *view
	key  []byte
	hash uint64

	// Position of the key's last Set or Delete. The value does not include earlier entries, that is,
	// entries in sources before startSource (see view.sourceCount) and the key's first startEntry
	// entries in startSource.
	startSource, startEntry int
	exists                  bool // the key exists after the entries read so far

	// If ledger is not nil, all entries of the key are added to it.
	ledger *segment.Ledger

	source   int
	entry    int // index of the key's next entry in this source
	started  bool
	inHotRun bool
	run      segment.Reader
	er       segment.EntryReader
	blob     segment.BlobReader
	inBlob   bool
	piece    ledger.Piece
}

func (v *view) newKeyStream(key []byte, hash uint64, ledger *segment.Ledger) (*keyStream, error) {
	ks := &keyStream{view: v, key: key, hash: hash, ledger: ledger}
	if err := ks.findStart(); err != nil {
		return nil, err
	}
	if ledger == nil {
		ks.source = ks.startSource
	}
	return ks, nil
}

// findStart finds the key's last Set or Delete.
func (ks *keyStream) findStart() error {
	for i := ks.view.sourceCount() - 1; i >= 0; i-- {
		if i < len(ks.view.segments) && ks.view.segments[i].ledger.Marks == 0 {
			continue
		}
		src, _ := ks.view.keySource(i, ks.hash, ks.key, &ks.run)
		n, hasReset := 0, false
		err := ks.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(ks.key) {
				return nil
			}
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				ks.startSource, ks.startEntry, hasReset = i, n, true
			}
			n++
			return nil
		})
		if err != nil {
			return ks.view.locateError(i, err)
		}
		if hasReset {
			return nil
		}
	}
	return nil
}

// next returns the next bytes of the value, or io.EOF at its end. The bytes are valid until
// the next call.
func (ks *keyStream) next() ([]byte, error) {
	for {
		b, visible, err := ks.step()
		if err != nil {
			return nil, err
		}
		if visible && len(b) > 0 {
			return b, nil
		}
	}
}

// step returns the bytes of the next entry, or of the next block of a large value. visible is false
// for bytes from before the key's last Set or Delete.
func (ks *keyStream) step() (b []byte, visible bool, err error) {
	visible = ks.source > ks.startSource || ks.source == ks.startSource && ks.entry > ks.startEntry
	if ks.inBlob {
		b, err = ks.blob.Next()
		if err == io.EOF {
			ks.inBlob = false
			if ks.ledger != nil {
				ks.ledger.AddPiece(&ks.piece)
			}
			return nil, false, nil
		}
		if err == nil && ks.ledger != nil {
			ks.piece.Add(b)
		}
		return b, visible, err
	}
	if ks.source == ks.view.sourceCount() {
		return nil, false, io.EOF
	}
	if !ks.started {
		src, hotRun := ks.view.keySource(ks.source, ks.hash, ks.key, &ks.run)
		ks.er.Reset(src)
		ks.inHotRun, ks.started, ks.entry = hotRun != nil, true, 0
	}
	e, err := ks.er.Next()
	if err == io.EOF {
		ks.source, ks.started = ks.source+1, false
		return nil, false, nil
	}
	if err != nil {
		return nil, false, ks.view.locateError(ks.source, err)
	}
	if string(e.Key) != string(ks.key) {
		if ks.inHotRun {
			seg := ks.view.segments[ks.source]
			return nil, false, seg.file.Corrupt(seg.Start, wrongRangeError(e.Key))
		}
		return nil, false, nil
	}
	visible = ks.source > ks.startSource || ks.source == ks.startSource && ks.entry >= ks.startEntry
	ks.entry++
	if visible {
		ks.exists = e.Kind != segment.KindDelete
	}
	if e.Kind == segment.KindBlob {
		if !visible && ks.ledger == nil {
			return nil, false, nil
		}
		if err := ks.view.files.openBlob(e.Value, &ks.blob); err != nil {
			return nil, false, err
		}
		ks.piece.Start(string(ks.key))
		ks.inBlob = true
		return nil, false, nil
	}
	if ks.ledger != nil {
		addInline(ks.ledger, &e)
	}
	return e.Value, visible, nil
}
