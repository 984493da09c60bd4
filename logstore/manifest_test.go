package logstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
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

// TestOtherFormatVersions checks that Open refuses a file with an older or newer format version. The
// error must name the file, its version and the supported version.
func TestOtherFormatVersions(t *testing.T) {
	start, _, _ := smallKilledStore(t)
	for name, supported := range map[string]byte{
		manifestName: manifestVersion, "seg-00000002": segment.FormatVersion, "blob-00000001": segment.FormatVersion, "wal-1": segment.FormatVersion,
	} {
		for _, version := range []byte{supported - 1, supported + 1} {
			mem := start.KillClone()
			h := crashHooksOn(mem)
			changeByte(t, mem, crashDir+"/"+name, 8, func(b byte) byte {
				if b != supported {
					t.Errorf("%s has version %d, want %d", name, b, supported)
				}
				return version
			})
			for _, opts := range []*Options{{}, {ReadOnly: true}} {
				s, err := openHooked(crashDir, opts, h)
				if err == nil {
					must.Do(t, s.Close())
				}
				var corrupt *partd.CorruptError
				want := fmt.Sprintf("format version %d, but this program supports only version %d", version, supported)
				if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.Path, name) || !strings.Contains(err.Error(), want) {
					t.Errorf("open with %s of version %d: error %v, want a CorruptError for the file with %q", name, version, err, want)
				}
			}
		}
	}
}
