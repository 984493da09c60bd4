package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/internal/servercli"
)

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A small run of the loads, which check what the server holds.
func TestLoads(t *testing.T) {
	for name, load := range map[string]func(context.Context, string) (float64, error){
		"Go clients":  func(ctx context.Context, url string) (float64, error) { return appendSmall(ctx, url, 2, 2, 8) },
		"raw clients": func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) },
	} {
		if rate, err := withServer(t.Context(), "mem:", load); err != nil || rate <= 0 {
			t.Errorf("%s: %v MB/s, %v", name, rate, err)
		}
	}
	_, err := withPythonServer(t.Context(), func(ctx context.Context, url string) (float64, error) { return appendRaw(ctx, url, 2, 4) })
	if errors.Is(err, errNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}
