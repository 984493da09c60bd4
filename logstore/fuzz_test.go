package logstore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"

	"github.com/go-partd/partd/internal/vfs"

	"github.com/go-partd/partd"
)

var osFS = vfs.OS{}

// No bytes make a decoder panic, read beyond its input, or accept what it would
// not write itself.
func FuzzEntry(f *testing.F) {
	f.Add(append(appendEntryHead(nil, kindAppend, "key", 5), "value"...), 3)
	f.Add(appendEntryHead(nil, kindDelete, "", 0), 1)
	f.Add(blobRef{1, 32, 1 << 20, 7}.append(appendEntryHead(nil, kindBlob, "k", blobRefLen)), 9)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 2)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		e, err := parseEntry(b)
		if short, ok := parseShort(b); ok && (err != nil || !reflect.DeepEqual(short, e)) {
			t.Fatalf("% x: %+v by parseShort, %+v and %v by parseEntry", b, short, e, err)
		}
		if err == nil {
			if got := append(appendEntryHead(nil, e.kind, string(e.key), len(e.value)), e.value...); len(got) > len(e.raw) {
				t.Fatalf("% x was read as % x", e.raw, got)
			}
			if _, err := e.valueLen(); err != nil && e.kind != kindBlob {
				t.Fatal(err)
			}
		}
		// Where the blocks end makes no difference.
		var blocks [][]byte
		cut = max(cut, 1)
		for rest := b; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			blocks = append(blocks, rest[:min(cut, len(rest))])
		}
		whole := entryReader{src: &sliceSource{[][]byte{b}}}
		parts := entryReader{src: &sliceSource{blocks}}
		for {
			e1, err1 := whole.next()
			e2, err2 := parts.next()
			if !errors.Is(err2, err1) {
				t.Fatalf("whole: %v, in blocks of %d: %v", err1, cut, err2)
			}
			if err1 != nil {
				return
			}
			if !bytes.Equal(e1.raw, e2.raw) || e1.kind != e2.kind || !bytes.Equal(e1.key, e2.key) || !bytes.Equal(e1.value, e2.value) {
				t.Fatalf("whole: % x, in blocks of %d: % x", e1.raw, cut, e2.raw)
			}
		}
	})
}

func FuzzRecordHeader(f *testing.F) {
	b := &batch{}
	b.reset()
	b.add(kindAppend, "key", []byte("value"), 1, 4)
	b.checksum()
	h := recordHeader{epoch: 3, seq: 9, synced: 8}
	f.Add(bytes.Clone(h.put(b, &format{seed: 5}, 64)), uint64(5), int64(64))
	h.tagged, h.tag = true, partd.Tag{Session: 1, Number: 2, CRC: 3}
	f.Add(bytes.Clone(h.put(b, &format{seed: 5}, 64)), uint64(5), int64(64))
	f.Add(walHeader{1, 1}.encode(&format{id: 7, seed: 5}), uint64(5), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, off int64) {
		store := &format{id: 7, seed: seed}
		h, err := parseRecordHeader(b, store, off, true)
		if err == nil {
			// What passes its checksum is what put writes.
			c := &batch{buf: make([]byte, batchPrefix+int(min(h.length, 1<<10)))}
			c.crc = h.crc
			if h.length < 1<<10 {
				if got := h.put(c, store, off); !bytes.Equal(got[:h.totalLen-int64(h.length)], b[:h.totalLen-int64(h.length)]) {
					t.Fatalf("% x was read, % x written", b, got)
				}
			}
		}
		_, _ = parseRecordHeader(b, store, off, false)
		if h, err := parseWALHeader(b, store); err == nil && !bytes.Equal(h.encode(store)[:8], b[:8]) {
			t.Fatal("a header was made up")
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := manifest{id: 1, seed: 2, liveEpoch: 3, nextSeq: 4, nextFile: 2, files: []fileRef{{segmentKind, 1, 100}, {blobKind, 2, 32}}}
	m.sessions = newSessionTable(5)
	m.sessions.put(5, lastOp{6, 7})
	f.Add(m.encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err == nil && len(m.encode()) != len(b) {
			t.Fatalf("%d bytes were read, %d written", len(b), len(m.encode()))
		}
		// Past the checksum, which the fuzzer cannot guess.
		if len(b) > 12 {
			_, _ = parseSessions(b)
		}
	})
}

func FuzzFooter(f *testing.F) {
	file := &file{format: &format{seed: 1}, number: 1}
	g := layout{start: 32, bits: 1, off: []uint32{0, 40, 80}}
	ledger := make([]byte, footerLedgerLen)
	ledger[0], ledger[8] = 2, 9
	g.hot = []hotRun{{hash: 1, off: 80, n: 20, bytes: 9, key: []byte("hot")}}
	b := g.encodeFooter(file, ledger, 132)
	f.Add(b[:len(b)-footerTailLen], int64(132))
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		g, ledger, err := parseFooter(b, at)
		if err != nil {
			return
		}
		if got := g.encodeFooter(file, ledger, at); !bytes.Equal(got[:8], b[:8]) || len(got) != len(b)+footerTailLen {
			t.Fatalf("%d bytes were read, %d written", len(b), len(got)-footerTailLen)
		}
	})
}

// Blocks with any content end in an error or in bytes, never in a panic or in
// memory that the file's size does not warrant.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00hello"))
	f.Add([]byte("\x00\x00\x00\x00\x04\x00\x00\x01\x00\x00\x01\x00abcd"))
	f.Add([]byte("\x00\x00\x00\x00\x04\x00\x00\x02\x00\x00\x01\x00abcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := vfs.NewMem()
		seg, err := mem.OpenFile("seg", os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seg.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		var r runReader
		r.reset(&file{format: &format{noCRC: true}, ReaderAt: seg, path: "seg"}, 0, int64(len(b)))
		total := 0
		for {
			p, err := r.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if total += len(p); len(p) == 0 || len(p) > blockLen {
				t.Fatalf("a block of %d bytes", len(p))
			}
		}
	})
}
