package objstore

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// writeVersion is set by packaging/versions only.
var writeVersion = flag.String("write-version", "", "write a store into this directory, instead of reading those in testdata/versions")

// TestReleasedVersions opens, reads and changes the store that each released version wrote into a bucket. With
// --write-version, it writes the store instead.
func TestReleasedVersions(t *testing.T) {
	use := func(dir string, want string) {
		bucket := must.Get(OpenDirectory(dir))(t)
		s := must.Get(Open(t.Context(), bucket, nil))(t)
		values, err := s.Get(t.Context(), "k", "deleted", "grouped")
		if err != nil || string(values[0]) != want || len(values[1]) != 0 || string(values[2]) != want[:min(len(want), len("piece"))] {
			t.Errorf("%s: Get returned %q, %v, want %q, nothing and the beginning of %q", dir, values, err, want, want)
		}
		err = s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("piece")}, partd.Entry{Key: "deleted", Value: []byte("piece")})
		must.Do(t, errors.Join(err, partd.Delete(t.Context(), s, "deleted"), s.Close()))
	}
	if *writeVersion != "" {
		dir := filepath.Join(*writeVersion, "objstore")
		use(dir, "")
		bucket := must.Get(OpenDirectory(dir))(t)
		appendAndFlush(t, contendedStore(t, bucket, Options{}, nil), "grouped", "piece")
		return
	}
	versions, err := filepath.Glob("../testdata/versions/v*/objstore")
	if err != nil || len(versions) == 0 {
		t.Fatalf("testdata/versions has the stores %q, error %v, want at least one", versions, err)
	}
	for _, version := range versions {
		dir := t.TempDir()
		must.Do(t, os.CopyFS(dir, os.DirFS(version)))
		use(dir, "piece")
		use(dir, "piecepiece")
	}
}
