package logstore

import (
	"testing"

	"os"
	"path/filepath"
	"strings"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/engine/segment"
)

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

// TestManifestVersion checks that only manifests with a ledger of removed data have format version 2.
func TestManifestVersion(t *testing.T) {
	m := manifest{lastFileNumber: 1, ledger: Ledger{Pieces: 3, Marks: 1}, sessions: newSessionTable(0), files: []fileRef{{segment.SegmentFile, 1, 99}}}
	for version := byte(1); version <= 2; version++ {
		b := m.encode()
		got, err := parseManifest(b)
		if err != nil || b[8] != version || got.ledger != m.ledger || got.removedLedger != m.removedLedger || len(got.files) != 1 || got.files[0] != m.files[0] {
			t.Errorf("parseManifest of a manifest with version %d = %+v, %v, want version %d and the encoded manifest", b[8], got, err, version)
		}
		m.removedLedger = Ledger{Pieces: 2, Bytes: 7, Sum: Sum128{Hi: 1, Lo: 2}, Marks: 5, MarkSum: Sum128{Hi: 3, Lo: 4}}
		if _, err := parseManifest(b[:len(b)-1]); err == nil {
			t.Error("parseManifest accepted a truncated manifest")
		}
	}
}

func TestNewerFormat(t *testing.T) {
	for _, name := range []string{manifestName, "seg-00000001"} {
		dir := t.TempDir()
		s := mustOpen(t, dir, nil)
		mustAppend(t, s, "a", "1")
		must(t, s.Close())
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[8] = manifestVersion + 1
		must(t, os.WriteFile(path, b, 0o666))
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer") {
			t.Errorf("Open with a newer %s: error %v, want advice to use a newer program", name, err)
		}
	}
}
