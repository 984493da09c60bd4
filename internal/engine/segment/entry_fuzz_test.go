package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// FuzzEntry checks that the decoders neither panic nor read beyond their input, and that they agree with each
// other and with the encoder.
func FuzzEntry(f *testing.F) {
	f.Add(append(AppendEntryHead(nil, KindAppend, "key", 5), "value"...), 3)
	f.Add(bytes.Repeat(AppendEntryHead(nil, KindSet, "key", 0), 3), 4)
	f.Add(AppendEntryHead(nil, KindDelete, "", 0), 1)
	f.Add(BlobRef{1, 32, 1 << 20, 7}.Append(AppendEntryHead(nil, KindBlob, "k", BlobRefLen)), 9)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 2)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		e, err := ParseEntry(b)
		kind, keyStart, valueStart, end, ok := ParseShort(b, 0)
		if ok && (err != nil || kind != e.Kind || end != len(e.Raw) || string(b[keyStart:valueStart]) != string(e.Key) || string(b[valueStart:end]) != string(e.Value)) {
			t.Fatalf("% x: ParseShort returned kind %d, key at %d, value from %d to %d; ParseEntry returned %+v, %v", b, kind, keyStart, valueStart, end, e, err)
		}
		if err == nil {
			if got := append(AppendEntryHead(nil, e.Kind, string(e.Key), len(e.Value)), e.Value...); len(got) > len(e.Raw) {
				t.Fatalf("entry % x is longer when encoded again: % x", e.Raw, got)
			}
			if _, err := e.ValueLen(); err != nil && e.Kind != KindBlob {
				t.Fatalf("ValueLen of an entry that is not a blob: %v", err)
			}
		}
		// The result must not depend on the division into blocks.
		var blocks [][]byte
		cut = max(cut, 1)
		for rest := b; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			blocks = append(blocks, rest[:min(cut, len(rest))])
		}
		contiguous := EntryReader{Src: &BlockList{[][]byte{b}}}
		parts := EntryReader{Src: &BlockList{blocks}}
		for {
			e1, err1 := contiguous.Next()
			e2, err2 := parts.Next()
			if !errors.Is(err2, err1) {
				t.Fatalf("Next() = error %v for one block, but with blocks of %d bytes: %v", err1, cut, err2)
			}
			if err1 != nil {
				return
			}
			if p, err := ParseEntry(e1.Raw); err != nil || p.HashStart != e1.HashStart {
				t.Fatalf("% x: Next() returned HashStart %d; ParseEntry returned %d, %v", e1.Raw, e1.HashStart, p.HashStart, err)
			}
			if !bytes.Equal(e1.Raw, e2.Raw) || e1.Kind != e2.Kind || !bytes.Equal(e1.Key, e2.Key) || !bytes.Equal(e1.Value, e2.Value) {
				t.Fatalf("Next() = % x for one block, but with blocks of %d bytes: % x", e1.Raw, cut, e2.Raw)
			}
		}
	})
}

// FuzzFooter checks that encoding an accepted footer again yields the same footer length and segment start.
func FuzzFooter(f *testing.F) {
	file := &File{Format: &Format{Seed: 1}, Number: 1}
	g := Layout{Start: 32, Bits: 1, Offsets: []uint32{0, 40, 80}}
	ledger := make([]byte, LedgerLen)
	ledger[0], ledger[8] = 2, 9
	g.Hot = []HotRun{{Hash: 1, Off: 80, Len: 20, Bytes: 9, Key: []byte("hot")}}
	b := g.EncodeFooter(file, ledger, 132)
	f.Add(b[:len(b)-footerTailLen], int64(132))
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		g, ledger, err := parseFooter(b, off)
		if err != nil {
			return
		}
		if got := g.EncodeFooter(file, ledger, off); !bytes.Equal(got[:8], b[:8]) || len(got) != len(b)+footerTailLen {
			t.Fatalf("parseFooter accepted %d bytes, but EncodeFooter returned %d", len(b), len(got)-footerTailLen)
		}
	})
}

// FuzzBlocks checks that reading arbitrary blocks with right checksums yields bytes or an error. It
// must not panic or return a block that is empty or too long.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00hello"))
	f.Add([]byte("\x00\x00\x00\x00\x04\x00\x00\x01\x00\x00\x01\x00abcd"))
	f.Add([]byte("\x00\x00\x00\x00\x04\x00\x00\x02\x00\x00\x01\x00abcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		file := &File{Format: &Format{}, ReaderAt: bytes.NewReader(b), Path: "seg"}
		for off := 0; len(b)-off >= blockHeaderLen; {
			end := off + blockHeaderLen + int(binary.LittleEndian.Uint32(b[off+4:])&(1<<24-1))
			if end > len(b) {
				break
			}
			binary.LittleEndian.PutUint32(b[off:], file.SaltedCRC(file.Number, int64(off), b[off+4:end]))
			off = end
		}
		var r Reader
		r.Reset(file, 0, int64(len(b)))
		total := 0
		for {
			p, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if total += len(p); len(p) == 0 || len(p) > blockLen {
				t.Fatalf("Next() returned a block of %d bytes, want 1 to %d", len(p), blockLen)
			}
		}
	})
}
