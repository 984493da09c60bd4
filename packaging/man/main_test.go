package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/spf13/cobra"
)

var (
	roff     = regexp.MustCompile(`(?m)\\f[A-Z]|\\&|^\.[A-Z]+ ?|^'`)
	notWords = regexp.MustCompile(`(?m)^(Usage|Flags|Global Flags|Examples|Available Commands|[A-Z][a-z ]+):$|^Use "partd.*$| \[command\]$|\(default\s[^)]*\)`)
	word     = regexp.MustCompile(`[\pL\pN$_-]+`)
)

// TestManualPages checks that each command has a page, and that the page has every word of the command's --help.
func TestManualPages(t *testing.T) {
	dir, pages := t.TempDir(), 0
	for _, root := range roots() {
		help := map[*cobra.Command]string{} // before writePages escapes the texts
		var visit func(cmd *cobra.Command)
		visit = func(cmd *cobra.Command) {
			if cmd.Hidden {
				return
			}
			var b bytes.Buffer
			cmd.SetOut(&b)
			must.Do(t, cmd.Help())
			help[cmd] = b.String()
			for _, c := range cmd.Commands() {
				visit(c)
			}
		}
		visit(root)
		must.Do(t, writePages(root, dir))
		for cmd, text := range help {
			name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
			page, err := os.ReadFile(filepath.Join(dir, name))
			if os.IsNotExist(err) && cmd.Name() == "help" { // cobra writes no page for it
				continue
			}
			must.Do(t, err)
			pages++
			words := map[string]bool{}
			for _, w := range word.FindAllString(strings.ReplaceAll(roff.ReplaceAllString(string(page), ""), `\\`, `\`), -1) {
				words[w] = true
			}
			for _, c := range cmd.Commands() { // only the pages of the subcommands repeat their summaries
				text = strings.ReplaceAll(text, c.Short, "")
				words[c.Name()] = true
			}
			for _, w := range word.FindAllString(notWords.ReplaceAllString(text, ""), -1) {
				if !words[w] {
					t.Errorf("%s lacks the word %q of %s --help", name, w, cmd.CommandPath())
				}
			}
		}
	}
	if pages < 80 {
		t.Errorf("there are %d pages, want at least 80", pages)
	}
}
