package main

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestEveryFormatIsChecked checks that a small run of each format reads back the same data, also with Python's partd.
func TestEveryFormatIsChecked(t *testing.T) {
	const data = "../../testdata/birdstrikes.csv"
	text := must.Get(os.ReadFile(data))(t)
	sums := map[string]bool{}
	for _, format := range compress.Formats() {
		f, err := runFormat(format, text, 100, 1000, 200_000)
		if err != nil || f.bytes != 200_000 {
			t.Errorf("a run of %s returned %+v, error %v; want 200000 bytes", format, f, err)
		}
		sums[f.sum] = true
	}
	if len(sums) != 1 {
		t.Errorf("the formats returned values with different checksums: %v", sums)
	}
	r := row{peer: "Snappy", value: 100, batch: 1000, total: 200_000}
	switch f, err := measure(r, data, true); {
	case errors.Is(err, program.ErrNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "":
		t.Log(err)
	case err != nil || !sums[f.sum]:
		t.Errorf("the values of Python's partd have the checksum %s (error: %v), want one of our checksums %v", f.sum, err, sums)
	}
}

func TestSamples(t *testing.T) {
	samples, err := readSamples("../../testdata/birdstrikes.csv", "../../testdata/airports.csv")
	if err != nil || len(samples) != 3 {
		t.Fatalf("readSamples returned %d samples, error %v; want 3 samples", len(samples), err)
	}
	if !bytes.Contains(samples[0].data, []byte("Louisiana")) || len(samples[1].data) != 4*8*10_000 {
		t.Errorf("the samples have %d and %d bytes, want CSV with Louisiana and 320000 bytes", len(samples[0].data), len(samples[1].data))
	}
	for _, set := range settings() {
		if f, err := measureCodec(samples[1].data[:8000], set, 1000); err != nil || f.ratio < 1 {
			t.Errorf("measureCodec with %s %s = %+v, error %v; want a ratio of at least 1", set.format, set.name, f, err)
		}
	}
}
