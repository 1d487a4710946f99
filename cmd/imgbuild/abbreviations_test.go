package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
)

func testRoot() (s *session) {
	return &session{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
}

func TestAbbreviations(t *testing.T) {
	for line, want := range map[string]string{
		"system build --desc d --target t --allow-exist":                 "system build --description d --target-dir t --allow-existing-root",
		"--prof=a --typ oem --targ x86_64 --deb=1 build":                 "error: --deb is not clear; did you mean --debug, --debug-run-scripts-in-screen?",
		"--prof=a --typ oem --targ x86_64 system build --c --d":          "error: --d is not clear; did you mean --debug, --debug-run-scripts-in-screen, --delete-package, --description?",
		"--prof=a --typ oem --targ x86_64 system build --c --descr --d":  "--profile=a --type oem --target-arch x86_64 system build --clear-cache --description --d",
		"build --debug --target-d --offl --offl":                         "build --debug --target-dir --offl --offline",
		"result bundle --bundle-d b --i 1 --target t --z":                "result bundle --bundle-dir b --id 1 --target-dir t --zsync-source",
		"image info --desc d --res --add-repo x --add-repo-c y --ignore": "image info --description d --resolve-package-list --add-repo x --add-repo-credentials y --ignore-repos",
		"stackbuild --sta a --desc d -- --add-p vim --target t":          "stackbuild --stash a --description d -- --add-package vim --target-dir t",
		"stackbuild --s a":                  "error: --s is not clear; did you mean",
		"build --set-c x":                   "error: --set-c is not clear; did you mean --set-container-derived-from, --set-container-tag?",
		"build --set-t volid=x --set-rel 9": "build --set-type-attr volid=x --set-release-version 9",
		"build --no-such --desc d":          "build --no-such --description d",
		"ls --rec x -- --js":                "ls --recursive x -- --js",
		"__complete build --desc":           "__complete build --desc",
		"--versi":                           "--version",
		"-v":                                "-v",
		"build -- --desc":                   "build -- --desc",
		"build --":                          "build --",
		"build --loc --desc d":              "error: --loc is not clear; did you mean --lock-file, --locked?",
		"build --locke --desc d":            "build --locked --description d",
		"build --locke=f --desc=d --desc":   "build --locked=f --description=d --description",
		"":                                  "",
	} {
		got, err := spellOut(newRoot(testRoot()), strings.Fields(line))
		text := strings.Join(got, " ")
		if err != nil {
			text = "error: " + err.Error()
			if exitCode(err) != exitUsage {
				t.Errorf("%q: exit code %d", line, exitCode(err))
			}
		}
		if strings.HasPrefix(want, "error: ") && strings.HasPrefix(text, want) {
			continue
		}
		if text != want {
			t.Errorf("%q became %q, want %q", line, text, want)
		}
	}
}

// kiwiCommands are the commands that kiwi-ng and its plugins have here.
func kiwiCommands() []string {
	return []string{"system prepare", "system build", "system create", "system update", "system stackbuild", "system stash", "image info", "result list", "result bundle"}
}

// TestEveryBeginning gives kiwi-ng's commands every beginning of each of its options that it would understand there, and its global options before and after them.
func TestEveryBeginning(t *testing.T) {
	s := testRoot()
	for _, command := range kiwiCommands() {
		words := strings.Fields(command)
		root := newRoot(s)
		cmd, _, err := root.Find(words)
		if err != nil {
			t.Fatal(err)
		}
		known := knownFlags(cmd)
		for _, place := range []struct {
			options       []string
			before, after []string
		}{
			{strings.Fields(kiwiOptions(words[1])), words, nil}, {strings.Fields(kiwiGlobals), nil, words},
		} {
			for _, option := range place.options {
				if known[option] == nil && len(place.before) > 0 {
					continue // TestKiwisOptions says what comes of it
				}
				for n := 1; n <= len(option); n++ {
					same := slices.DeleteFunc(slices.Clone(place.options), func(o string) bool { return !strings.HasPrefix(o, option[:n]) })
					if len(same) > 1 && n < len(option) {
						continue
					}
					args := slices.Concat(place.before, []string{"--" + option[:n] + "=x"}, place.after)
					got, err := spellOut(root, args)
					if want := slices.Concat(place.before, []string{"--" + option + "=x"}, place.after); err != nil || !slices.Equal(got, want) {
						t.Errorf("%q became %q, %v", args, got, err)
					}
				}
			}
		}
	}
}

// TestKiwisOptions walks through the options that kiwi-ng 9 and 10 have: each is taken, or the answer says what to do in its place.
func TestKiwisOptions(t *testing.T) {
	values := map[string]string{
		"set-repo": "dir:///x,rpm-md", "add-repo": "dir:///x,rpm-md,a,1,true,true,{k},main,sid,true,baseurl", "loglevel": "10", "add-container-label": "a=b", "set-type-attr": "volid=b", "type": "oem", "logfile": "stdout",
	}
	instead := map[string]string{
		"ca-cert": "post_bootstrap.sh", "ca-target-distribution": "post_bootstrap.sh", "list-profiles": "--print-yaml", "print-kiwi-env": ".profile", "no-compress": "--compression none", "setenv": "scripts",
	}
	for _, command := range kiwiCommands() {
		words := strings.Fields(command)
		cmd, _, err := newRoot(testRoot()).Find(words)
		if err != nil {
			t.Fatal(err)
		}
		own := strings.Fields(kiwiOptions(words[1]))
		for _, option := range slices.Concat(own, strings.Fields(kiwiGlobals), []string{"setenv"}) {
			global := !slices.Contains(own, option)
			word := "--" + option
			if flag := knownFlags(cmd)[option]; flag == nil || flag.NoOptDefVal == "" {
				word += "=x"
				if value := values[option]; value != "" {
					word = "--" + option + "=" + value
				}
			}
			lines := [][]string{append(slices.Clone(words), word, "--help")}
			if global {
				lines = append(lines, append(append([]string{word}, words...), "--help"))
			}
			for _, line := range lines {
				var out, errs bytes.Buffer
				code := run(t.Context(), line, strings.NewReader(""), &out, &errs)
				hint := instead[option]
				switch {
				case code == exitDone && errs.Len() == 0 && strings.Contains(out.String(), "Usage:"):
				case code == exitUsage && hint != "" && strings.Contains(errs.String(), hint):
				case global && code == exitUsage && (words[0] == "result" || words[1] == "stash") && strings.Contains(errs.String(), "unknown flag"): // it has no meaning there, nor with kiwi-ng
				default:
					t.Errorf("%q: exit code %d: %s", line, code, &errs)
				}
			}
		}
	}
}

func TestUnknownFlags(t *testing.T) {
	for line, want := range map[string]string{
		"build --discription x": `unknown flag: --discription; did you mean "--description"?`,
		"build --zzzzzzz x":     "unknown flag: --zzzzzzz; see",
	} {
		var errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), strings.NewReader(""), io.Discard, &errs); code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d: %s", line, code, &errs)
		}
	}
}
