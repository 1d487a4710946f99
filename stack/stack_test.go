package stack

import (
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

func TestStackKeepsMergedUsr(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{
		"base": {"bin": "-> usr/bin", "usr/bin/sh": "base shell", "etc/issue": "base"},
		"app":  {"bin/app": "program", "bin/sh": "app shell", "etc/issue": "app"},
	})
	for rule, want := range map[layers.MergeRule]string{layers.RuleFollow: "usr/bin/app", layers.RuleRsync: "bin/app"} {
		s, err := Make(t.Context(), client, Options{Containers: []string{"base", "app"}, Rule: rule})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Tree.Lookup(want); err != nil {
			t.Errorf("rule %v: %v", rule, err)
		}
		if data, _ := s.Tree.ReadFile("etc/issue", 100); string(data) != "app" {
			t.Errorf("rule %v: the earlier container won: %q", rule, data)
		}
		var paths []string
		for _, c := range s.Report.Clashes {
			paths = append(paths, c.Path)
			if c.From != "base:latest" || c.Took != "app:latest" {
				t.Errorf("clash %+v", c)
			}
		}
		if !strings.Contains(strings.Join(paths, " "), "bin") || !strings.Contains(strings.Join(paths, " "), "etc/issue") {
			t.Errorf("rule %v: clashes at %v", rule, paths)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
