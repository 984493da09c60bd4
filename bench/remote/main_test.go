package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestMain(m *testing.M) {
	program.ServeIfChild()
	readIfChild()
	os.Exit(m.Run())
}

// TestLoads runs each load with little data. The loads check the values on the server.
func TestLoads(t *testing.T) {
	for name, load := range map[string]func(context.Context, string) (float64, error){
		"Go clients":  func(ctx context.Context, url string) (float64, error) { return appendSmall(ctx, url, 2, 2, 8) },
		"raw clients": func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) },
	} {
		if rate, err := withServer(t.Context(), "mem:", load); err != nil || rate <= 0 {
			t.Errorf("%s: rate = %v MB/s, error %v; want a positive rate", name, rate, err)
		}
	}
	_, err := withPythonServer(t.Context(), func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) })
	if errors.Is(err, program.ErrNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestReaders checks that the readers read the expected number of bytes, with little data.
func TestReaders(t *testing.T) {
	for _, store := range []string{"log:", "file:", "mem:"} {
		if err := measureReaders(t.Context(), "readers, "+store, store, 16, 1); err != nil {
			t.Errorf("measureReaders() with the store %s: %v", store, err)
		}
	}
}

// TestJob checks that the readers of a small job read the bytes that its tasks have appended.
func TestJob(t *testing.T) {
	must.Do(t, measureJob(t.Context(), "job", 3, 1e6, 1))
}
