package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKiwisOrderOfArguments(t *testing.T) {
	for line, want := range map[string]string{
		"build --description d":                             "build --description d",
		"--profile=a --profile b --type oem build --root r": "build --profile=a --profile b --type oem --root r",
		"--debug --type=oem system build --target-dir t":    "--debug system build --type=oem --target-dir t",
		"--logfile l --kiwi-file k system prepare --root r": "--logfile l system prepare --kiwi-file k --root r",
		"system --type oem build":                           "system build --type oem",
		"--color-output image info --description d":         "--color-output image info --description d",
		"--type oem stackbuild --stash a -- --type iso":     "stackbuild --type oem --stash a -- --type iso",
		"--offline build x":                                 "build --offline x",
		"--locked build":                                    "build --locked",
		"--no-such build":                                   "--no-such build",
		"--type":                                            "--type",
		"--version":                                         "--version",
		"-v":                                                "-v",
		"images --store s":                                  "images --store s",
		"":                                                  "",
		"--target-arch=aarch64 --shared-cache-dir=c system update": "system update --target-arch=aarch64 --shared-cache-dir=c",
	} {
		root := newRoot(&session{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
		got := strings.Join(commandFirst(root, strings.Fields(line)), " ")
		if got != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%q became %q, want %q", line, got, want)
		}
	}
}

// TestKiwisFlags gives each command what kiwi-ng's has.
func TestKiwisFlags(t *testing.T) {
	global := "color-output config debug debug-run-scripts-in-screen kiwi-file logfile loglevel logsocket profile shared-cache-dir target-arch temp-dir type"
	repos := " ignore-repos add-repo add-repo-credentials signing-key"
	build := " description allow-existing-root clear-cache ignore-repos-used-for-build set-repo set-repo-credentials add-package add-bootstrap-package delete-package" +
		" set-container-derived-from set-container-tag add-container-label" + repos
	root := newRoot(&session{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	for command, flags := range map[string]string{
		"system prepare":    global + build + " root",
		"system build":      global + build + " target-dir",
		"system stackbuild": global + build + " target-dir stash from-registry",
		"system create":     global + " root target-dir signing-key",
		"system update":     global + " root add-package delete-package",
		"image info":        global + repos + " description resolve-package-list print-xml print-yaml",
		"system stash":      "root tag container-name list",
	} {
		cmd, _, err := root.Find(strings.Fields(command))
		if err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		var missing []string
		for _, name := range strings.Fields(flags) {
			if cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
				missing = append(missing, name)
			}
		}
		if diff := cmp.Diff([]string(nil), missing); diff != "" {
			t.Errorf("%s: %s", command, diff)
		}
	}
}

// TestEveryFlagIsExplained keeps the help readable.
func TestEveryFlagIsExplained(t *testing.T) {
	for _, command := range []string{"build", "prepare", "create", "update", "stackbuild", "image info"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(command), "--help"), strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 {
			t.Errorf("%s --help: %d, %s", command, code, &errs)
		}
		for line := range strings.Lines(out.String()) {
			if fields := strings.Fields(line); strings.HasPrefix(line, "      --") && !strings.Contains(line, "http:") && len(fields) < 3 {
				t.Errorf("%s: %s", command, line)
			}
		}
	}
}
