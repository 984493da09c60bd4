package cloud

import (
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

// TestPlanOverGateway runs jobs of three sizes, with and without a disk, and compares their requests
// with the plan, with a tolerance of a tenth or one pass. The job's stores run one after another,
// because the plan assumes no concurrent flushes.
func TestPlanOverGateway(t *testing.T) {
	g := startGateway(t)
	for i, c := range []struct {
		writers, readers int
		mib, entry       int64
	}{{1, 1, 16, 1000}, {2, 3, 48, 1000}, {4, 8, 96, 200}} {
		for _, disk := range []int64{0, 1 << 30} {
			j := objstore.Job{
				Writers: c.writers, Readers: c.readers, Bytes: c.mib << 20, EntryBytes: c.entry,
				Options: objstore.Options{Memory: objstore.MinMemory, Disk: disk},
			}
			p := must.Get(j.Plan())(t)
			url := g.url(fmt.Sprintf("plan%d-%d", i, disk), fmt.Sprintf("&disk=%d&disk-dir=%s", disk, t.TempDir()))
			var got objstore.Requests
			withStore := func(f func(s partd.Partd) error) {
				t.Helper()
				s := openURL(t, url)
				must.Do(t, errors.Join(f(s), partd.Close(t.Context(), s)))
				r := s.(*Store).Requests()
				got.Put, got.Get, got.List = got.Put+r.Put, got.Get+r.Get, got.List+r.List
			}
			value := make([]byte, c.entry-3-10) // the rest of the entry is its head and key
			for range c.writers {
				withStore(func(s partd.Partd) error {
					for n := range j.Bytes / c.entry / int64(c.writers) {
						if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprintf("%010d", n), Value: value}); err != nil {
							return err
						}
					}
					return partd.Flush(t.Context(), s)
				})
			}
			for part := range c.readers {
				withStore(func(s partd.Partd) error {
					for _, err := range partd.ScanPart(t.Context(), s, part, c.readers) {
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
			slack := int64(2)
			if disk == 0 {
				slack += p.Segments * int64(c.readers) // one pass
			}
			wantNear := func(kind string, got, want int64) {
				if 10*(got-slack) > 11*want || 10*(want-slack) > 11*got {
					t.Errorf("%+v, disk %d: %s requests: %d, planned %d", c, disk, kind, got, want)
				}
			}
			wantNear("PUT", got.Put, p.Requests.Put)
			wantNear("GET", got.Get, p.Requests.Get)
			t.Logf("%+v, disk %d: %v; planned %v", c, disk, got, p.Requests)
		}
	}
}
