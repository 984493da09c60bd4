package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/stores"
)

// TestTornEnd checks that a command says so if it opens a store whose last record is incomplete, because the record may
// have been acknowledged. An intact store gets no warning.
func TestTornEnd(t *testing.T) {
	for _, args := range [][]string{{"keys"}, {"verify"}, {"append", "k"}} {
		_, killed := smallStores(t)
		for _, isTorn := range []bool{false, true} {
			file := filepath.Join(killed, "wal-0")
			if isTorn {
				log := must.Get(os.ReadFile(file))(t)
				flipBit(t, file, len(bytes.TrimRight(log, "\x00"))-1)
			}
			store := filepath.Join(t.TempDir(), "store")
			must.Do(t, os.CopyFS(store, os.DirFS(killed)))
			code, _, errs := runHere(t.Context(), nil, append(args, "--store", "log:"+store)...)
			if code != cliutil.ExitOK || strings.Contains(errs, "partd: warning: skipped an incomplete record") != isTorn || isTorn && !strings.Contains(errs, store) {
				t.Errorf("%s of a store whose end is torn (%v): exit code %d, standard error %q", args[0], isTorn, code, errs)
			}
		}
	}
}

// TestCommandsOnShards checks that every command can use three servers as one store.
func TestCommandsOnShards(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var urls, addresses []string
	var servedStores []partd.Partd
	for i := range 3 {
		store := must.Get(stores.Open(t.Context(), fmt.Sprintf("log:%s/%d?memory=16MiB", dir, i)))(t)
		url, _ := serve(t, store)
		servedStores, urls, addresses = append(servedStores, store), append(urls, url), append(addresses, strings.TrimPrefix(url, "tcp://"))
	}
	url := "tcp://" + strings.Join(addresses, ",")
	command := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := runHere(t.Context(), nil, args...)
		if code != want {
			t.Fatalf("%s: exit code %d, want %d: %s", args, code, want, stderr)
		}
		return stdout, stderr
	}
	var rows strings.Builder
	rows.WriteString("city,amount\n")
	for i := range 500 {
		fmt.Fprintf(&rows, "city %d,%d\n", i%50, i)
	}
	csv := filepath.Join(dir, "sales.csv")
	must.Do(t, os.WriteFile(csv, []byte(rows.String()), 0o600))
	command(cliutil.ExitOK, "shuffle", "--by", "city", "--quiet", "--store", url, csv)
	if _, stderr := command(cliutil.ExitFailed, "shuffle", "--by", "city", "--quiet", "--store", url, csv); !strings.Contains(stderr, "already has keys") {
		t.Errorf("a second shuffle prints %s, want \"already has keys\"", stderr)
	}
	command(cliutil.ExitOK, "shuffle", "--by", "city", "--quiet", "--replace", "--store", url, csv)
	sorted := func(text string) string {
		lines := strings.SplitAfter(text, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
	_, all, _ := strings.Cut(rows.String(), "\n")
	parts := ""
	for part := range 4 {
		partOutput, _ := command(cliutil.ExitOK, "scan", "--values", "--part", fmt.Sprintf("%d/4", part), "--store", url)
		parts += partOutput
	}
	fullOutput, _ := command(cliutil.ExitOK, "scan", "--values", "--store", url)
	if sorted(fullOutput) != sorted(all) || sorted(parts) != sorted(all) {
		t.Errorf("scan yields %d bytes, and its four parts %d in total, want the same %d bytes", len(fullOutput), len(parts), len(all))
	}
	if keys, _ := command(cliutil.ExitOK, "keys", "--store", url); strings.Count(keys, "\n") != 50 || strings.Contains(keys, "partd-shards") {
		t.Errorf("keys does not print 50 keys:\n%s", keys)
	}
	var stat statRecord
	text, _ := command(cliutil.ExitOK, "stat", "--json", "--store", url)
	if err := json.Unmarshal([]byte(text), &stat); err != nil || stat.Keys != 50 || stat.Bytes != int64(len(all)) {
		t.Errorf("stat prints %s, %v, want 50 keys and %d bytes", text, err, len(all))
	}
	command(cliutil.ExitOK, "append", "--store", url, "city 7", csv)
	if value, _ := command(cliutil.ExitOK, "get", "--store", url, "city 7"); !strings.HasSuffix(value, rows.String()) {
		t.Errorf("get prints %q, want the appended file at the end", value)
	}
	command(cliutil.ExitOK, "delete", "--store", url, "city 7")

	// Copy to a store of another kind and back. Copying to one of the servers, or to the same
	// servers in another order, must fail.
	copied := "zstd+log:" + dir + "/copy"
	command(cliutil.ExitOK, "copy", "--quiet", "--from", url, "--to", copied)
	reordered := "tcp://" + addresses[2] + "," + addresses[0] + "," + addresses[1]
	for _, c := range [][2]string{{url, urls[1]}, {urls[1], url}, {url, reordered}} {
		if _, stderr := command(cliutil.ExitFailed, "copy", "--quiet", "--replace", "--from", c[0], "--to", c[1]); !strings.Contains(stderr, "nothing to copy") {
			t.Errorf("copy from %s to %s prints %s, want \"nothing to copy\"", c[0], c[1], stderr)
		}
	}
	before, _ := command(cliutil.ExitOK, "scan", "--values", "--store", url)
	command(cliutil.ExitOK, "drop", "--store", url)
	if keys, _ := command(cliutil.ExitOK, "keys", "--store", url); keys != "" {
		t.Errorf("after a drop, keys prints %s, want nothing", keys)
	}
	command(cliutil.ExitOK, "copy", "--quiet", "--from", copied, "--to", url)
	if after, _ := command(cliutil.ExitOK, "scan", "--values", "--store", url); sorted(after) != sorted(before) || len(after) == 0 {
		t.Errorf("after copying back, scan prints %d bytes, want the original %d bytes", len(after), len(before))
	}

	for _, store := range servedStores {
		must.Do(t, partd.Flush(t.Context(), store))
	}
	if v, code, _ := verify(t, url); code != cliutil.ExitOK || !v.OK || v.Keys != 49 || v.Segments < 3 {
		t.Errorf("verify = %+v, want 49 keys and no damage", v)
	}
	files, err := filepath.Glob(dir + "/1/seg-*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data := must.Get(os.ReadFile(file))(t)
		data[len(data)/2] ^= 1
		must.Do(t, os.WriteFile(file, data, 0o600))
	}
	if v, code, _ := verify(t, url); code != cliutil.ExitFailed || len(v.Damage) == 0 || !strings.HasPrefix(v.Damage[0].File, addresses[1]+": ") {
		t.Errorf("verify of a damaged store = %+v, want damage in a file of %s", v, addresses[1])
	}

	// If a server's store is lost, every command fails until the user confirms the loss with adopt.
	must.Do(t, servedStores[1].Drop(t.Context()))
	for _, args := range [][]string{
		{"keys"},
		{"get", "city 1"},
		{"scan"},
		{"stat"},
		{"verify"},
		{"append", "city 1", csv},
		{"delete", "city 1"},
		{"drop"},
		{"copy", "--quiet", "--replace", "--to", copied, "--from"},
		{"copy", "--quiet", "--replace", "--from", copied, "--to"},
	} {
		if args[0] != "copy" {
			args = append(args, "--store")
		}
		if out, stderr := command(cliutil.ExitFailed, append(args, url)...); out != "" || !strings.Contains(stderr, "shard "+addresses[1]+": ") || !strings.Contains(stderr, "partd adopt") {
			t.Errorf("%s after the loss of a store prints %s%s, want only an error that names the shard and partd adopt", args, out, stderr)
		}
	}
	command(cliutil.ExitUsage, "adopt", "--store", url, "elsewhere:1")
	command(cliutil.ExitUsage, "adopt", "--store", urls[1], addresses[1])
	if _, stderr := command(cliutil.ExitFailed, "adopt", "--store", url, addresses[0]); !strings.Contains(stderr, "it has keys") {
		t.Errorf("adopt of a server with keys prints %s, want an error that it has keys", stderr)
	}
	if out, _ := command(cliutil.ExitOK, "adopt", "--store", url, addresses[1]); !strings.Contains(out, addresses[1]) {
		t.Errorf("adopt prints %s, want the address %s", out, addresses[1])
	}
	if keys, _ := command(cliutil.ExitOK, "keys", "--store", url); keys == "" || strings.Count(keys, "\n") >= 49 {
		t.Errorf("after adopt, keys does not print 1 to 48 keys:\n%s", keys)
	}
	command(cliutil.ExitOK, "append", "--store", url, "city 1", csv)
}

// TestScanLines checks that each line that the scan command prints contains at most 1 MiB of a value, no matter how the
// store splits its values. Only an empty value has a line without bytes.
func TestScanLines(t *testing.T) {
	const mega = 1 << 20
	lines := map[string]int{"": 1, "empty": 1, "one": 1, "full": 1, "more": 2, "large": 4, "\xff": 1}
	sizes := map[string]int{"": 3, "empty": 0, "one": 1, "full": mega, "more": mega + 1, "large": 3*mega + 5, "\xff": 2}
	for _, scheme := range []string{"file:", "log:", "zstd+file:"} {
		t.Run(scheme, func(t *testing.T) {
			url := scheme + t.TempDir() + "/store"
			store := must.Get(stores.Open(t.Context(), url))(t)
			want := map[string][]byte{}
			for key, size := range sizes {
				want[key] = bytes.Repeat([]byte(key+"0123456789"), size/10+1)[:size]
				must.Do(t, partd.Set(t.Context(), store, key, want[key]))
			}
			must.Do(t, partd.Close(t.Context(), store))
			seen, got := map[string]int{}, map[string][]byte{}
			for part := range 3 {
				out := must.Get(program(t, "scan", "--store", url, "--part", fmt.Sprintf("%d/3", part)).Output())(t)
				for line := range bytes.Lines(out) {
					var r scanRecord
					d := json.NewDecoder(bytes.NewReader(line))
					d.DisallowUnknownFields()
					must.Do(t, d.Decode(&r))
					key := string(r.KeyBase64)
					if r.Key != nil {
						key = *r.Key
					}
					if r.Offset != int64(len(got[key])) || len(r.ValueBase64) > mega {
						t.Fatalf("key %q has a line of %d bytes at offset %d, want at most 1 MiB at offset %d", key, len(r.ValueBase64), r.Offset, len(got[key]))
					}
					got[key] = append(got[key], r.ValueBase64...)
					if seen[key]++; r.Last != (seen[key] == lines[key]) {
						t.Errorf("key %q, line %d of %d: last = %v", key, seen[key], lines[key], r.Last)
					}
				}
			}
			length := 0
			for key, value := range want {
				if !bytes.Equal(got[key], value) || seen[key] != lines[key] {
					t.Errorf("key %q has %d bytes in %d lines, want %d in %d", key, len(got[key]), seen[key], len(value), lines[key])
				}
				length += len(value)
			}
			values, err := program(t, "scan", "--store", url, "--values").Output()
			if err != nil || len(values) != length || len(got) != len(want) {
				t.Errorf("scan --values prints %d bytes, want %d; scan prints %d keys, want %d; error %v", len(values), length, len(got), len(want), err)
			}
		})
	}
}

// TestStatWatch checks that partd stat --watch shows the content and the growth of a store every second, for a server
// and for files. Ctrl-C stops it like any other command.
func TestStatWatch(t *testing.T) {
	t.Parallel()
	ctx, served := t.Context(), partd.NewDict()
	url, _ := serve(t, served)
	writer := must.Get(openStore(ctx, url, nil))(t)
	defer func() { _ = partd.Close(ctx, writer) }()
	grow := func() {
		must.Do(t, writer.Append(ctx, partd.Entry{Key: "fruit", Value: make([]byte, 1000)}, partd.Entry{Key: "nut", Value: []byte("n")}))
	}
	grow()
	file := "file:" + filepath.Join(t.TempDir(), "store")
	fillStore(t, file, partd.Entry{Key: "a", Value: []byte("1111")})
	watch := func(hasEnough func(line string) bool, args ...string) {
		t.Helper()
		cmd, stderr := programErrs(t, append([]string{"stat", "--watch", "--top", "1"}, args...)...)
		out := must.Get(cmd.StdoutPipe())(t)
		must.Do(t, cmd.Start())
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer watchdog.Stop()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() && !hasEnough(scanner.Text()) {
		}
		interrupt(t, os.Interrupt, "stat --watch", cmd, stderr)
	}
	type record struct {
		Time                 time.Time
		Keys, Bytes, Changes int64
		BytesPerSecond       float64 `json:"bytes_per_second"`
		ChangesPerSecond     float64 `json:"changes_per_second"`
		Largest              []struct{ Key string }
	}
	var previous record
	watch(func(line string) bool {
		var r record
		must.Do(t, json.Unmarshal([]byte(line), &r))
		if r.Keys != 2 || r.Bytes != 1001*r.Changes || len(r.Largest) != 1 || r.Largest[0].Key != "fruit" {
			t.Errorf("a line has the wrong content: %s", line)
		}
		interval, rate := r.Time.Sub(previous.Time), 0.0 // the first line has no rates
		if previous.Keys > 0 {
			rate = float64(r.Changes-previous.Changes) / interval.Seconds()
		}
		if math.Abs(r.ChangesPerSecond-rate) > 0.001 || math.Abs(r.BytesPerSecond-1001*rate) > 1 || interval < watchInterval/2 {
			t.Errorf("%v after the line before it, a line has the wrong rates, want %.3f changes per second: %s", interval, rate, line)
		}
		grow()
		previous = r
		return r.Changes >= 3 // on a busy machine, several lines may show the same content
	}, "--store", url, "--json")
	pattern := regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:]+Z  1 keys  4 bytes  \+0\.000 MB/s$`)
	lines := 0
	watch(func(line string) bool {
		if !pattern.MatchString(line) {
			t.Errorf("got the line %q, want a match of %v", line, pattern)
		}
		lines++
		return lines == 2
	}, "--store", file)
}

// TestStatWatchOnTerminal checks that on a terminal, stat --watch redraws a page.
func TestStatWatchOnTerminal(t *testing.T) {
	var out bytes.Buffer
	w := watch{app: &app{out: &out}, url: "log:x", isTerminal: true}
	r := watchRecord{Changes: 7, BytesPerSecond: 1.5e6, ChangesPerSecond: 300}
	r.statRecord = statRecord{Keys: 1, Bytes: 5, largestKeys: []partd.KeyInfo{{Key: "k", Size: 5}}}
	must.Do(t, w.show(r))
	for _, words := range []string{"\x1b[H\x1b[2J", "store  log:x\n", "keys   1\n", "largest keys\n  k  5  ###", "+1.500 MB/s  300 changes/s\n"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the page %q does not contain %q", out.String(), words)
		}
	}
}

// hangingStore is a store whose server is unreachable.
type hangingStore struct{ *partd.Dict }

func (hangingStore) Flush(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestCloseAfterLostServer checks that a command that could not reach the server soon stops trying to flush.
func TestCloseAfterLostServer(t *testing.T) {
	t.Parallel()
	lost := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("network is unreachable")}
	err := fmt.Errorf("append: %w", lost)
	start := time.Now()
	closed := make(chan struct{})
	go func() { closeStore(t.Context(), hangingStore{partd.NewDict()}, &err); close(closed) }()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatal("closeStore still tries to flush after 30 s")
	}
	if !errors.Is(err, lost) {
		t.Errorf("the error after %v = %v, want the first one", time.Since(start), err)
	}
}
