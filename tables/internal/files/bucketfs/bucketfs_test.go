package bucketfs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

// TestReadDuringClose checks that a file can be opened at any time while another goroutine closes it. Close moves the
// local file into the cache.
func TestReadDuringClose(t *testing.T) {
	c := must.Get(OpenCache(t.TempDir(), 1<<20))(t)
	f := New(new(objstore.Memory), c, "bucket", "key", time.Second)
	defer f.Close()
	f.Expect(func(string) (int64, xxh3.Uint128, bool, error) { return 0, xxh3.Uint128{}, false, nil })
	for i := range 200 {
		name := fmt.Sprint("/data/", i)
		w, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		must.Get(w.Write([]byte(name)))(t)
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		for isClosed := false; !isClosed; {
			select {
			case err = <-closed:
				isClosed = true
			default:
				_, err = f.Info(name)
			}
			if err != nil {
				t.Fatalf("file %d: %v", i, err)
			}
		}
	}
}
