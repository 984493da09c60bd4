// Package dask tests the example beside it, which is written in Python.
package dask

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/servercli"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
)

// asServer makes the test binary the server.
const asServer = "PARTD_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestExample(t *testing.T) {
	const python = "/usr/bin/python3" // the system's, which has dask where it is installed
	if err := exec.Command(python, "-c", "import partd, zmq, dask.dataframe").Run(); err != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatalf("PARTD_REQUIRE_ALL is set, and this test needs Python with partd, zmq and dask: %v", err)
		}
		t.Skip("needs Python with partd, zmq and dask")
	}
	server := exec.Command(os.Args[0], "--listen", "tcp://127.0.0.1:0", "--store", "log:"+t.TempDir()+"/data")
	server.Env = append(os.Environ(), asServer+"=1")
	p, err := serverproc.Start(t.Context(), server, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "shuffle.py", p.URL())
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "none lost or changed") != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	// It must have gone through the server.
	c, err := remote.Dial(ctx, p.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stats, err := partd.Stat(ctx, c)
	if err != nil || stats.Keys != 2*5 || stats.Bytes < 100_000 {
		t.Errorf("the server holds %+v, %v: want five partitions of two shuffles", stats, err)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}
