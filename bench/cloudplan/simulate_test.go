package main

import (
	"math"
	"os"
	"testing"
)

// TestModelPredictsMeasuredJob compares the model with a job of 2 GB on the machine where its costs were measured with
// a quarter of the size (go run -C bench ./remote --only "a job" --tasks 8). Loopback stands for the network.
func TestModelPredictsMeasuredJob(t *testing.T) {
	const appended, read = 6.2, 2.1 // measured seconds
	c := cluster{machines: 1, cores: 2, network: math.Inf(1), write: 1e9, read: 2e9}
	appending, reading := c.steps(8*256e6, false)
	for name, s := range map[string]struct {
		step     demand
		measured float64
	}{"append": {appending, appended}, "read": {reading, read}} {
		if got, _ := c.seconds(s.step); got < 0.7*s.measured || got > 1.3*s.measured {
			t.Errorf("the model predicts %.1f s for %s, want %.1f s within 30 %%", got, name, s.measured)
		}
	}
}

// TestLimits checks which resource limits a step, and that lost work is done again.
func TestLimits(t *testing.T) {
	c := cluster{machines: 10, cores: 4, network: 1e9, write: 1e9, read: 1e9}
	for want, d := range map[string]demand{
		"CPU":     {cpu: 41, in: 9e9, out: 10e9, write: 5e9, read: 5e9},
		"network": {cpu: 36, in: 8e9, out: 10e9, write: 5e9, read: 4e9},
		"disk":    {cpu: 36, in: 9e9, out: 9e9, write: 5e9, read: 5e9},
	} {
		if s, got := c.seconds(d); got != want || s < 10 || s > 10.25 {
			t.Errorf("seconds(%+v) = %v, %s; want 10 s, %s", d, s, got, want)
		}
	}
	if got := c.withKills(100, 400, math.Inf(1)); math.Abs(got-100) > 1e-6 {
		t.Errorf("without kills, tasks take %v s, want 100", got)
	}
	// The kill after 95 s stops the last of ten tasks, which starts again a minute later.
	if got := (cluster{machines: 1, cores: 1}).withKills(100, 10, 95); got != 165 {
		t.Errorf("with a kill after 95 s, tasks take %v s, want 165", got)
	}
	if got := withDiskLosses(3600, 3600); math.Abs(got-3600*(math.E-1)) > 1 {
		t.Errorf("a job of an hour, disturbed once an hour, takes %v s, want %v", got, 3600*(math.E-1))
	}
}

// TestPageIsCurrent checks that docs/cloud-plan.md and docs/dev/cloud-model.md are the output of this program.
func TestPageIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/cloud-plan.md")
	if err != nil || string(b) != cloudPlanPage() {
		t.Errorf("docs/cloud-plan.md is outdated: run go run -C bench ./cloudplan > docs/cloud-plan.md, and docs/plots/draw (%v)", err)
	}
	b, err = os.ReadFile("../../docs/dev/cloud-model.md")
	if err != nil || string(b) != simulation() {
		t.Errorf("docs/dev/cloud-model.md is outdated: run go run -C bench ./cloudplan --model > docs/dev/cloud-model.md (%v)", err)
	}
}
