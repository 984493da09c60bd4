//go:build cgo

package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestServeInfluxKilled writes points with InfluxDB's client for Python, which repeats its batches, and kills the server
// PARTD_KILLS times meanwhile. No acknowledged point may be lost. A table with keys may not have a point twice.
func TestServeInfluxKilled(t *testing.T) {
	python := procs.Python(t, "influx")
	dir, address := t.TempDir(), "localhost:"+nettest.FreePort(t)
	secret := filepath.Join(t.TempDir(), "secret")
	const secretText = "a secret of 32 bytes or more, of words"
	must.Do(t, os.WriteFile(secret, []byte(secretText), 0o600))
	token := must.Get(flightd.NewToken([]byte(secretText), flightd.Admin, "", time.Hour))(t)
	createKeyed(t, dir)
	start := func() *exec.Cmd {
		cmd, _ := startServer(t, "--listen", "grpc://localhost:0", "--http", address, "--dir", dir, "--secret-file", secret, "--insecure")
		return cmd
	}
	server := start()
	count, kills := tabletest.Rounds(t, "PARTD_POINTS", 3000), procs.Kills(t, 2)
	client := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "influx_peer.py"), "http://"+address, token, fmt.Sprint(count))
	client.Stderr = t.Output()
	out := must.Get(client.StdoutPipe())(t)
	must.Do(t, client.Start())
	var last string
	killed := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24) // the last line is long
	for lines.Scan() {
		last = lines.Text()
		var stored int
		if _, err := fmt.Sscanf(last, "stored %d", &stored); err == nil && killed < kills && stored > 2*count*(killed+1)/(kills+2) {
			must.Do(t, server.Process.Kill())
			_ = server.Wait() // it was killed
			server = start()
			killed++
		}
	}
	must.Do(t, client.Wait())
	var got struct {
		Ping            bool
		Version, Health string
		Conflict        []any
		Stored          map[string][]int
		Failures        []string
	}
	must.Do(t, json.Unmarshal([]byte(last), &got))
	if killed != kills || len(got.Failures) > 0 {
		t.Errorf("%d kills of %d; the client gave up: %q", killed, kills, got.Failures)
	}
	if !got.Ping || got.Health != "pass" || !strings.HasPrefix(got.Version, "partd-tables ") {
		t.Errorf("ping %v, health %q, version %q", got.Ping, got.Health, got.Version)
	}
	if text := fmt.Sprint(got.Conflict); !strings.HasPrefix(text, "[400 map[code:invalid") || !strings.Contains(text, `line 1: measurement "plain", field "n"`) {
		t.Errorf("a conflict of types: got %s", text)
	}
	for table, acknowledged := range got.Stored {
		counts := readPoints(t, address, token, table)
		for _, n := range acknowledged {
			if counts[fmt.Sprint(n)] == 0 {
				t.Errorf("%s lacks the acknowledged point %d", table, n)
			}
		}
		repeated := 0
		for _, n := range counts {
			repeated += n - 1
		}
		if slices.Sort(acknowledged); len(slices.Compact(acknowledged)) != count || len(counts) != count || repeated > 0 && table == "keyed" {
			t.Errorf("%s: %d points acknowledged, %d stored, %d of them again, want %d", table, len(acknowledged), len(counts), repeated, count)
		}
		t.Logf("%s: %d points, %d stored again after a kill", table, len(counts), repeated)
	}
}

// createKeyed creates the table keyed, where a repeated point replaces the first one.
func createKeyed(t *testing.T, dir string) {
	t.Helper()
	store := must.Get(tables.Open(t.Context(), dir, nil))(t)
	defer func() { must.Do(t, store.Close()) }()
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "time", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "host", Type: arrow.BinaryTypes.String},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "load", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	none := must.Get(array.NewRecordReader(columns, nil))(t)
	settings := &tables.Settings{Time: "time", Keys: []string{"host"}, OnDuplicate: tables.KeepLast, Evolution: tables.AddOnly}
	must.Get(store.Bucket("B").Table("keyed").Put(t.Context(), none, tables.PutError, &tables.PutOptions{Settings: settings}))(t)
}

// readPoints returns how often each value of the column n occurs in a table of the server.
func readPoints(t *testing.T, address, token, table string) map[string]int {
	t.Helper()
	r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/download?format=csv&bucket=B&table="+table, nil))(t)
	r.Header.Set("Authorization", "Bearer "+token)
	a := must.Get(http.DefaultClient.Do(r))(t)
	defer a.Body.Close()
	lines := bufio.NewScanner(a.Body)
	lines.Scan()
	column := slices.Index(strings.Split(lines.Text(), ","), "n")
	if a.StatusCode != http.StatusOK || column < 0 {
		t.Fatalf("%s: status %d, header %q", table, a.StatusCode, lines.Text())
	}
	counts := map[string]int{}
	for lines.Scan() {
		counts[strings.Split(lines.Text(), ",")[column]]++
	}
	must.Do(t, lines.Err())
	return counts
}
