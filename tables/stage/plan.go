package stage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Action says what a run would do with a stage.
type Action string

// The possible actions.
const (
	Runs    Action = "runs"
	MayRun  Action = "may run" // the stage runs if the result of an ancestor that runs differs from the stored one
	Kept    Action = "kept"    // the result is stored
	Skipped Action = "skipped" // the result is neither stored nor needed
)

// Step is the plan for one stage.
type Step struct {
	Stage  string
	Key    string // empty if an ancestor must run before the key is known
	Action Action
	Why    string // the reason, such as the names of changed inputs
}

// Plan returns what Run would do with each stage, ancestors first. It runs no stage.
func (s *Stage[T]) Plan(ctx context.Context, r *Results) ([]Step, error) {
	stages, err := r.hashInputs(s.n)
	if err != nil {
		return nil, err
	}
	results, err := r.backend.list(ctx)
	if err != nil {
		return nil, err
	}
	byKey, newest := map[string]*Info{}, map[string]*Info{}
	for _, info := range results {
		byKey[info.Key] = info
		if n := newest[info.Stage]; n == nil || info.Created.After(n.Created) {
			newest[info.Stage] = info
		}
	}
	r.setKnownKeys(stages, byKey)
	unknown := map[*node]bool{}
	for _, k := range stages {
		unknown[k.node] = k.content == ""
	}
	needed := map[*node]Action{s.n: Runs} // Runs or MayRun if a stage that needs the node's result does
	steps := make([]Step, len(stages))
	for n, k := range slices.Backward(stages) {
		step := Step{Stage: k.name, Key: k.key, Action: Runs}
		info := k.withTTL(byKey[k.key])
		switch {
		case k.key == "":
			var names []string
			for _, a := range k.ancestors {
				if unknown[a] {
					names = append(names, a.name)
				}
			}
			step.Action, step.Why = MayRun, "if the result of "+strings.Join(names, " or ")+" differs"
		case k.cache && k.content != "":
			step.Action, step.Why = Kept, "its inputs have not changed"
		case needed[k.node] == "":
			step.Action, step.Why = Skipped, "no stage that runs needs its result"
		case !k.cache:
			step.Action, step.Why = needed[k.node], "its result is not cached"
		case info != nil:
			step.Why = fmt.Sprintf("its result expired at %s", info.Expires.Format("2006-01-02 15:04:05Z07:00"))
		case newest[k.name] == nil:
			step.Why = "it never ran"
		default:
			step.Why = describeChanges(newest[k.name].Parts, k.parts)
		}
		for _, a := range k.ancestors {
			if step.Action == Runs || step.Action == MayRun && needed[a] == "" {
				needed[a] = step.Action
			}
		}
		steps[n] = step
	}
	return steps, nil
}

// describeChanges names the inputs that differ between two keys of a stage.
func describeChanges(oldParts, newParts map[string]string) string {
	var changes []string
	names := maps.Clone(oldParts)
	maps.Copy(names, newParts)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, existed := oldParts[name]
		current, exists := newParts[name]
		switch {
		case !existed:
			changes = append(changes, name+" was added")
		case !exists:
			changes = append(changes, name+" was removed")
		case old != current:
			changes = append(changes, name+" changed")
		}
	}
	if len(changes) == 0 {
		return "the order of the files changed"
	}
	return strings.Join(changes, ", ")
}
