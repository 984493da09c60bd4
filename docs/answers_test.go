package docs_test

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestAnswers checks that each figure in the sentences of docs/answers.md is in one of the pages that their sections
// link to. A figure is a number with its unit; a command is not checked.
func TestAnswers(t *testing.T) {
	text := must.Get(os.ReadFile("docs/answers.md"))(t)
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	sections := strings.Split(string(text), "\n## ")[1:]
	if len(sections) != 5 {
		t.Errorf("docs/answers.md has %d sections, want 5", len(sections))
	}
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		var sources, sentence []string
		for _, m := range link.FindAllStringSubmatch(section, -1) {
			source := must.Get(os.ReadFile("docs/" + m[1]))(t)
			before := ""
			for block := range strings.SplitSeq(string(source), "\n\n") {
				unit := ""
				if strings.HasPrefix(block, "|") && strings.Contains(before, "Seconds") {
					unit = "s" // the caption names the unit of the table's figures
				}
				sources = append(sources, figures(block, unit)...)
				before = block
			}
		}
		for line := range strings.Lines(section) {
			if quoted, ok := strings.CutPrefix(line, "> "); ok {
				sentence = append(sentence, strings.TrimSpace(quoted))
			}
		}
		spoken := regexp.MustCompile("`[^`]*`").ReplaceAllString(strings.Join(sentence, " "), "")
		spoken = strings.ReplaceAll(spoken, "p2p", "")
		if len(sentence) == 0 {
			t.Errorf("section %q has no sentence", title)
		}
		for _, f := range figures(spoken, "") {
			if !slices.Contains(sources, f) {
				t.Errorf("section %q: none of the pages that it links to has the figure %s", title, f)
			}
		}
	}
}

var figure = regexp.MustCompile(`([0-9][0-9.,]*[0-9]|[0-9])(?:\s(µs|ms|s|MB/s|MB|GB|MiB|rows)\b)?`)

// figures returns the figures of a text, each with its unit, or with the given unit if it has none.
func figures(text, unit string) (all []string) {
	for _, m := range figure.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.TrimSpace(m[1]+" "+cmp.Or(m[2], unit)))
	}
	return all
}
