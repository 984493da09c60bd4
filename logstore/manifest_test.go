package logstore

import (
	"bytes"
	"testing"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"

	"github.com/go-partd/partd"
)

var osFS = vfs.OS{}

// FuzzRecordHeader checks that the decoders of write-ahead files do not panic or read beyond their
// input, and accept only encodings that the store writes.
func FuzzRecordHeader(f *testing.F) {
	b := &batch{}
	b.reset()
	b.add(segment.KindAppend, "key", []byte("value"), 1, 4)
	b.checksum()
	h := recordHeader{epoch: 3, seq: 9, synced: 8}
	f.Add(bytes.Clone(h.put(b, &segment.Format{Seed: 5}, 64)), uint64(5), int64(64))
	h.tagged, h.tag = true, partd.Tag{Session: 1, Number: 2, CRC: 3}
	f.Add(bytes.Clone(h.put(b, &segment.Format{Seed: 5}, 64)), uint64(5), int64(64))
	f.Add(walHeader{1, 1}.encode(&segment.Format{ID: 7, Seed: 5}), uint64(5), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, off int64) {
		store := &segment.Format{ID: 7, Seed: seed}
		h, err := parseRecordHeader(b, store, off, true)
		if err == nil {
			// A header with a correct checksum must be what put writes.
			c := &batch{buf: make([]byte, batchPrefix+int(min(h.length, 1<<10)))}
			c.crc = h.crc
			if h.length < 1<<10 {
				if got := h.put(c, store, off); !bytes.Equal(got[:h.totalLen-int64(h.length)], b[:h.totalLen-int64(h.length)]) {
					t.Fatalf("the header % x was accepted, but is encoded as % x", b, got)
				}
			}
		}
		_, _ = parseRecordHeader(b, store, off, false)
		if h, err := parseWALHeader(b, store); err == nil && !bytes.Equal(h.encode(store)[:8], b[:8]) {
			t.Fatal("parseWALHeader accepted bytes that the store would not write")
		}
	})
}

// FuzzManifest checks that parseManifest does not panic, and accepts only encodings of the right length.
func FuzzManifest(f *testing.F) {
	m := manifest{id: 1, seed: 2, liveEpoch: 3, nextSeq: 4, lastFileNumber: 2, files: []fileRef{{segment.SegmentFile, 1, 100}, {segment.BlobFile, 2, 32}}}
	m.sessions = newSessionTable(5)
	m.sessions.put(5, sessiontab.Operation{Number: 6, CRC: 7})
	f.Add(m.encode())
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err == nil && len(m.encode()) != len(b) {
			t.Fatalf("parseManifest accepted %d bytes, but the manifest is encoded in %d", len(b), len(m.encode()))
		}
		// Decode sessions directly, because the fuzzer cannot guess the manifest's checksum.
		if len(b) > 12 {
			_, _ = parseSessions(b)
		}
	})
}
