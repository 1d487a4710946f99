// Package scripts runs a description's scripts inside of the root tree.
package scripts

import (
	"bytes"
	"context"
	_ "embed" // the functions for scripts
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// The scripts of a description, by when they run.
const (
	// PostBootstrap runs when the bootstrap packages are there.
	PostBootstrap = "post_bootstrap.sh"
	// Config runs when packages, files, users and settings are there.
	Config = "config.sh"
	// Images runs before each image that is made of the root tree.
	Images = "images.sh"
	// PreDiskSync runs before the root tree is written to a disk.
	PreDiskSync = "pre_disk_sync.sh"
)

// ImageDir is where in the tree scripts lie.
const ImageDir = "image"

// Where the functions and the variables for scripts lie in the tree.
const (
	LibraryFile = ".kconfig"
	ProfileFile = ".profile"
)

//go:embed kconfig.sh
var library []byte

// Library returns the functions that scripts may call, for [LibraryFile].
func Library() []byte { return bytes.Clone(library) }

// insideReport is the directory inside in which a failing script leaves where it was.
const insideReport = "/run/imgbuild/report"

// tracer is what bash reads before a script. It notes each command that fails where a script is not prepared for it: the last one is
// usually why the script failed.
const tracer = `unset BASH_ENV
set -o errtrace
trap 'printf "%s\n%s\n%s\n" "${BASH_SOURCE[0]:-$0}" "$LINENO" "$BASH_COMMAND" > ` + insideReport + `/failed' ERR
`

// Options say how to run a script.
type Options struct {
	// Run runs a program in the root tree.
	Run func(ctx context.Context, spec sandbox.Spec) error
	// Tree is the root tree, which has the script in its /image.
	Tree *layers.Tree
	// Variables are in the script's environment, as they are in /.profile.
	Variables map[string]string
	// Env is added to the environment.
	Env []string
	// Workdir is an existing directory on the host for a temporary one.
	Workdir string
	// Progress shows that the script runs; Log gets its output.
	Progress progress.Reporter
	Log      *slog.Logger
}

// Has reports whether the tree has the script.
func Has(tree *layers.Tree, name string) bool {
	_, node, err := tree.Resolve(ImageDir + "/" + name)
	return err == nil && node.IsRegular()
}

// Run runs the script of the given name. The error of one that fails says where, as far as bash tells, and has the end of its output.
func Run(ctx context.Context, name string, opts Options) (err error) {
	task := opts.Progress.Start("running "+name, 0, progress.Items)
	defer func() { task.Done(err) }()
	args, err := commandLine(opts.Tree, name)
	if err != nil {
		return err
	}
	report, err := os.MkdirTemp(opts.Workdir, ".script-")
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	defer os.RemoveAll(report)
	env := []string{"BASH_ENV=/run/imgbuild/tracer"}
	for _, key := range slices.Sorted(maps.Keys(opts.Variables)) {
		env = append(env, key+"="+opts.Variables[key])
	}
	out := &lines{log: opts.Log, name: name}
	err = opts.Run(ctx, sandbox.Spec{
		Args: args, Env: append(env, opts.Env...), Title: name, Stdout: out, Stderr: out, Log: opts.Log,
		Binds: []sandbox.Bind{{Source: report, Target: insideReport}},
		Files: []sandbox.File{{Path: "/run/imgbuild/tracer", Data: []byte(tracer), Perm: 0o644}},
	})
	out.flush()
	return explain(err, name, report)
}

// commandLine runs a script by itself if it says how, else by bash or, where the tree has none, by sh.
func commandLine(tree *layers.Tree, name string) ([]string, error) {
	resolved, node, err := tree.Resolve(ImageDir + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", name, err)
	}
	path := "/" + resolved
	content, err := node.Open()
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", name, err)
	}
	defer content.Close()
	start := make([]byte, 256)
	n, _ := content.Read(start) // an empty script is for the shell to run
	first, _, _ := strings.Cut(string(start[:n]), "\n")
	if interpreter, ok := strings.CutPrefix(first, "#!"); ok {
		words := strings.Fields(interpreter)
		if len(words) == 0 {
			return nil, fmt.Errorf("running %s: its first line names no interpreter", name)
		}
		if _, _, err := tree.Resolve(words[0]); err != nil {
			return nil, fmt.Errorf("running %s: its interpreter %s is not in the root tree; add the package that brings it to the description", name, words[0])
		}
		return append(words, path), nil
	}
	for _, shell := range []string{"bin/bash", "usr/bin/bash"} {
		if _, _, err := tree.Resolve(shell); err == nil {
			return []string{"/" + shell, path}, nil
		}
	}
	return []string{"/bin/sh", path}, nil
}

// explain adds the place of the failure.
func explain(err error, name, report string) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	exit.Line = name
	data, readErr := os.ReadFile(filepath.Join(report, "failed"))
	if errors.Is(readErr, fs.ErrNotExist) {
		return err
	}
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	place := strings.SplitN(strings.TrimSpace(string(data)), "\n", 3)
	if len(place) == 3 {
		exit.Line = fmt.Sprintf("%s (the last command that failed: %s line %s: %s)", name, place[0], place[1], strings.ReplaceAll(place[2], "\n", "; "))
	}
	return err
}

// lines hands a script's output to the log.
type lines struct {
	log  *slog.Logger
	name string
	part []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		line, rest, found := bytes.Cut(l.part, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.log.Info(l.name, "line", string(line))
		l.part = rest
	}
}

func (l *lines) flush() {
	if len(l.part) > 0 {
		l.log.Info(l.name, "line", string(l.part))
		l.part = nil
	}
}
