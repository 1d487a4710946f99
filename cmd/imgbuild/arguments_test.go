package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
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
