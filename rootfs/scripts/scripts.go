// Package scripts runs a description's scripts.
package scripts

import (
	"bytes"
	"context"
	_ "embed" // the functions for scripts
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"

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
	// ConfigOverlay runs after Images where the image is a layer on top of another container.
	ConfigOverlay = "config-overlay.sh"
	// ConfigHostOverlay is as ConfigOverlay, and runs outside.
	ConfigHostOverlay = "config-host-overlay.sh"
	// PreDiskSync runs before the root tree is written to a disk.
	PreDiskSync = "pre_disk_sync.sh"
	// Disk runs when the root tree has what ties it to its disk, such as /etc/fstab.
	Disk = "disk.sh"
	// EditBootConfig runs outside when the boot loader's files are in the root tree. The description gives it a name of its own.
	EditBootConfig = "edit_boot_config.sh"
	// EditBootInstall runs outside when the disk is written. The description gives it a name of its own.
	EditBootInstall = "edit_boot_install.sh"
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

// Options say how to run a script.
type Options struct {
	// Run runs a program in the root tree or, for a script that runs outside, on this machine with the tree in view as sandbox.TargetDir.
	Run func(ctx context.Context, spec sandbox.Spec) error
	// Failed, if not nil, is told of a failure while all is as the script has left it, and what it ran as. What it returns is the error.
	Failed func(ctx context.Context, spec sandbox.Spec, err error) error
	// Outside says that the script runs outside.
	Outside bool
	// Tree is the root tree, which has the script in its /image.
	Tree *layers.Tree
	// Args are the script's arguments.
	Args []string
	// Variables are in the script's environment, as they are in /.profile.
	Variables map[string]string
	// Env is added to the environment.
	Env []string
	// Binds are this machine's files that the script finds besides.
	Binds []sandbox.Bind
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

// Run runs the script of the given name in the tree's /image. The error of one that fails is an *[Error].
func Run(ctx context.Context, name string, opts Options) error {
	return run(ctx, name, ImageDir+"/"+name, opts)
}

// RunFile is as [Run] for a script that lies elsewhere in the tree.
func RunFile(ctx context.Context, file string, opts Options) error {
	return run(ctx, "/"+file, file, opts)
}

func run(ctx context.Context, name, file string, opts Options) error {
	script, err := read(opts.Tree, file)
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	args, dir := []string{"bash", "--norc", sandbox.TargetDir + "/" + file}, sandbox.TargetDir
	if opts.Outside {
		_, err = command.Find("bash")
	} else {
		dir = "/"
		args, err = script.commandLine(opts.Tree)
	}
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	report, err := os.MkdirTemp(opts.Workdir, ".script-")
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	defer os.RemoveAll(report)
	var env []string
	if slices.ContainsFunc(args[:len(args)-1], func(word string) bool { return path.Base(word) == "bash" }) {
		env = append(env, "BASH_ENV="+tracerFile)
	}
	for _, key := range slices.Sorted(maps.Keys(opts.Variables)) {
		env = append(env, key+"="+opts.Variables[key])
	}
	out := &lines{log: opts.Log, name: name}
	spec := sandbox.Spec{
		Args: append(args, opts.Args...), Env: append(env, opts.Env...), Dir: dir, Title: name, Stdout: out, Stderr: out, Log: opts.Log,
		Binds: append([]sandbox.Bind{{Source: report, Target: reportDir}}, opts.Binds...),
		Files: []sandbox.File{{Path: tracerFile, Data: []byte(tracer), Perm: 0o644}},
	}
	task := opts.Progress.Start("running "+name, 0, progress.Items)
	err = opts.Run(ctx, spec)
	out.flush()
	err = script.explain(err, name, report)
	task.Done(err) // what Failed does may need the terminal
	if err != nil && opts.Failed != nil {
		err = opts.Failed(ctx, spec, err)
	}
	return err
}

// maxLine is where a script's output is cut into lines that has no line breaks, in bytes.
const maxLine = 16 << 10

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
		switch {
		case found && len(line) <= maxLine:
			l.tell(line)
		case len(line) > maxLine:
			rest = l.part[maxLine:]
			l.tell(line[:maxLine])
		default:
			return len(p), nil
		}
		l.part = rest
	}
}

func (l *lines) flush() {
	if len(l.part) > 0 {
		l.tell(l.part)
		l.part = nil
	}
}

// tell writes one line to the log, as text: what a script prints may be anything.
func (l *lines) tell(line []byte) {
	l.log.Info(l.name, "line", string(bytes.ToValidUTF8(bytes.TrimSuffix(line, []byte("\r")), []byte("\uFFFD"))))
}
