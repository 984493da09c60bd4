package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/attempttest"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// forEachBucket runs a test on a directory, on a gateway, and on a gateway with a compressing layer.
// Each call of open returns a separate instance, as on another machine.
func forEachBucket(t *testing.T, run func(t *testing.T, open func() partd.Partd)) {
	t.Run("directory", func(t *testing.T) {
		d := must.Get(objstore.OpenDirectory(t.TempDir()))(t)
		run(t, func() partd.Partd {
			s := must.Get(objstore.Open(t.Context(), d, &objstore.Options{Memory: objstore.MinMemory}))(t)
			return s
		})
	})
	for _, layer := range []string{"", "zstd+"} {
		t.Run(layer+"s3", func(t *testing.T) {
			g := startGateway(t)
			run(t, func() partd.Partd { return openURL(t, layer+g.url("jobs", "")) })
		})
	}
}

func closeStore(t *testing.T, s partd.Partd) {
	t.Helper()
	must.Check(t, partd.Close(context.Background(), s))
}

// runTask runs two alternating attempts to append entries, each with its own store, and commits the
// second attempt. A third attempt must fail, because the task has committed.
func runTask(t *testing.T, open func() partd.Partd, name string, entries []partd.Entry) {
	var writers []*shuffle.Writer
	var attempts []partd.Partd
	for attempt := range 2 {
		s := open()
		defer closeStore(t, s)
		w, err := shuffle.Begin(t.Context(), s, name, fmt.Sprint(attempt))
		if !must.Check(t, err) {
			return
		}
		writers, attempts = append(writers, w), append(attempts, s)
	}
	for batch := range slices.Chunk(entries, 100) {
		for i, w := range writers {
			must.Check(t, w.Append(t.Context(), batch...))
			must.Check(t, partd.Flush(t.Context(), attempts[i]))
		}
	}
	for _, w := range slices.Backward(writers) { // the first attempt commits last, so it does not count
		must.Check(t, w.Commit(t.Context()))
	}
	if _, err := shuffle.Begin(t.Context(), attempts[0], name, "2"); !errors.Is(err, shuffle.ErrCommitted) {
		t.Errorf("Begin() of a third attempt: error = %v, want %v", err, shuffle.ErrCommitted)
	}
}

// joinLines returns n entries, which are the lines of one side of a join. TestWordCount counts their words.
func joinLines(name string, n int) (entries []partd.Entry) {
	for i := range n {
		key := fmt.Sprint("user", i*7%100)
		entries = append(entries, partd.Entry{Key: fmt.Sprint("part ", i*7%100%16), Value: fmt.Append(nil, name, " ", key, " ", i)})
	}
	return entries
}

func waitCommitted(t *testing.T, store partd.Partd, tasks int) *shuffle.Committed {
	committed := must.Get(shuffle.WaitCommitted(t.Context(), store, &shuffle.WaitOptions{Count: tasks}))(t)
	return committed
}

// TestAttempts checks that attempts work as with every other kind of store.
func TestAttempts(t *testing.T) {
	forEachBucket(t, func(t *testing.T, open func() partd.Partd) {
		s := open()
		defer closeStore(t, s)
		attempttest.Run(t, s)
	})
}

// TestWordCount counts words in tasks with several attempts, and compares the result with a direct count.
func TestWordCount(t *testing.T) {
	forEachBucket(t, func(t *testing.T, open func() partd.Partd) {
		want := map[string]int{}
		var total []partd.Entry
		for n := range 4 {
			entries := joinLines(fmt.Sprint("text", n), 300)
			total = append(total, entries...)
			t.Run(fmt.Sprint("task ", n), func(t *testing.T) { runTask(t, open, fmt.Sprint(n), entries) })
		}
		for _, e := range total {
			for _, word := range strings.Fields(string(e.Value)) {
				want[word]++
			}
		}
		store := open()
		defer closeStore(t, store)
		c := waitCommitted(t, store, 4)
		got := map[string]int{}
		var shares []shuffle.Checksum
		for part := range 3 { // three readers
			var share shuffle.Checksum
			for e, err := range c.ScanPart(t.Context(), part, 3, &share) {
				must.Do(t, err)
				for _, word := range strings.Fields(string(e.Value)) {
					got[word]++
				}
			}
			shares = append(shares, share)
		}
		if err := c.Verify(shares...); err != nil || !maps.Equal(got, want) {
			t.Errorf("Verify() error = %v; counted %d words, want %d", err, len(got), len(want))
		}
		if err := c.Verify(shares[1:]...); err == nil {
			t.Error("Verify() did not detect that a part is missing")
		}
	})
}

// TestUnknownSchemeNamesProgram checks that a program without package cloud returns an error that names the program
// that supports the scheme.
func TestUnknownSchemeNamesProgram(t *testing.T) {
	must.Fail(t, must.Err(stores.Open(t.Context(), "s3://bucket/prefix")), "partd-cloud", "Open() of an s3 URL")
}

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

// TestSecretsInURLs checks that a user and password in a URL are refused, and that no error contains the password.
func TestSecretsInURLs(t *testing.T) {
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	for _, scheme := range []string{"s3", "gs"} {
		for _, rest := range []string{
			"bucket/p?endpoint=http://u:SECRET@127.0.0.1:1", "bucket/p?endpoint=u:SECRET@127.0.0.1:1",
			"bucket/p?endpoint=http%3A%2F%2Fu%3ASECRET%40127.0.0.1:1", "u:SECRET@bucket/p?endpoint=http://127.0.0.1:1",
		} {
			url := scheme + "://" + rest
			for _, err := range []error{must.Err(stores.NewSet(Schemes()...).Open(t.Context(), url, nil)), must.Err(OpenBucket(t.Context(), url))} {
				if err == nil || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("opening %s: error %v, want one without the password", url, err)
				}
			}
		}
	}
}
