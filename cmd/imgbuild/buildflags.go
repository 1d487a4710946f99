package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/description/settings"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/system"
)

// buildFlags are the flags of all commands that build: each registers the groups that have a meaning for it.
type buildFlags struct {
	stackFlags
	selectionFlags
	overrides overrideFlags
	packages  packageFlags
	container containerFlags
	sign      signFlags
	// containers are those to stack.
	containers []string
	root       string
	target     string
	existing   bool
	plan       bool
	json       bool
}

// selectionFlags say what is meant of which description.
type selectionFlags struct {
	description string
	file        string
	types       []string
	profiles    []string
	arch        string
	skip        []string
	config      string
}

func (f *selectionFlags) registerDescription(flags *pflag.FlagSet) {
	flags.StringVar(&f.description, "description", "", "the `directory` of the description")
}

func (f *selectionFlags) registerSelection(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "kiwi-file", "", "the `name` of the description's file in its directory (default: config.xml, or the first *.kiwi)")
	flags.StringSliceVar(&f.types, "type", nil, "the image `type` (default: the description's primary one, or its first); build, create and stackbuild take several, TYPE,TYPE... or all")
	flags.StringArrayVar(&f.profiles, "profile", nil, "a `profile` of the description; repeatable")
	flags.StringVar(&f.arch, "target-arch", "", "the `architecture` to build for, as uname -m prints it (default: this machine's)")
	flags.StringArrayVar(&f.skip, "skip-check", nil, "leave out a check of the description, by its `id`, or all; repeatable")
	flags.StringVar(&f.config, "config", "", "KIWI's runtime configuration, a YAML `file` (default: ~/.config/kiwi/config.yml, or /etc/kiwi.yml)")
}

// containerFlags say how a container is packed, and where it goes.
type containerFlags struct {
	compression string
	push        string
	noArchive   bool
}

func (f *containerFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.compression, "container-compression", "", "the `form` in which the layer of a container is packed: zstd, gzip or none, with :LEVEL if you like (default: gzip, and none in a docker archive)")
	flags.StringVar(&f.push, "push", "", "send the container that is built to this `name` in a registry, such as registry.example.org/team/app; without a tag it gets those of the description")
	flags.BoolVar(&f.noArchive, "no-archive", false, "keep no archive of a container that is pushed")
}

// apply puts them into the options of a build.
func (f *containerFlags) apply(opts *system.Options) error {
	if f.compression != "" {
		compression, err := layers.ParseCompression(f.compression)
		if err != nil {
			return fmt.Errorf("--container-compression: %w", err)
		}
		opts.Container.Compression = &compression
	}
	switch {
	case f.push == "" && f.noArchive:
		return errors.New("--no-archive is for a container that is pushed; add --push")
	case f.push == "":
		return nil
	case opts.Offline:
		return errors.New("--push needs the network, which --offline forbids")
	}
	to, err := registry.Destination(f.push)
	if err != nil {
		return fmt.Errorf("--push: %w", err)
	}
	opts.Push = &system.Push{To: to, NoArchive: f.noArchive}
	return nil
}

// packageFlags say how packages are got.
type packageFlags struct {
	cache      string
	sharedDir  string
	clearCache bool
	offline    bool
	locked     string
	lockFile   string
	builder    string
	service    string
	shell      bool
}

func (f *packageFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.cache, "package-cache", defaultCache(),
		"the `directory` that keeps downloaded packages for later builds, \"\" for none (default: $XDG_CACHE_HOME/imgbuild/packages, for root /var/cache/imgbuild/packages)")
	flags.Lookup("package-cache").DefValue = "" // the text says it, for every user
	flags.StringVar(&f.sharedDir, "shared-cache-dir", "", "KIWI's name for --package-cache: packages are kept in `directory`/packages")
	flags.BoolVar(&f.clearCache, "clear-cache", false, "empty the package cache first")
	flags.BoolVar(&f.offline, "offline", false, "don't use the network: take packages from the cache and containers from the store")
	flags.StringVar(&f.locked, "locked", "", "use exactly the packages and containers of this lock `file`; without =FILE the one beside the description, or else beside the results")
	flags.Lookup("locked").NoOptDefVal = system.LockFile
	flags.StringVar(&f.lockFile, "lock-file", "", "write the lock into this `file` too")
	flags.StringVar(&f.builder, "builder", "", "a `container` with the package manager, for what this machine lacks")
	flags.StringVar(&f.service, "obs-url", "", "the `address` of the download server that obs:// repositories are on")
	flags.BoolVar(&f.shell, "shell-on-error", false, "open a shell in the root tree where a program of it has failed")
}

// defaultCache is where packages are kept.
func defaultCache() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "imgbuild/packages")
	}
	user := userns.Real()
	if user.UID == 0 || user.Home == "" {
		return "/var/cache/imgbuild/packages"
	}
	return filepath.Join(user.Home, ".cache/imgbuild/packages")
}

// directory is the package cache.
func (f *packageFlags) directory(cmd *cobra.Command) string {
	if f.sharedDir != "" && !cmd.Flags().Changed("package-cache") {
		return filepath.Join(f.sharedDir, "packages")
	}
	return f.cache
}

// lock reads the lock file to obey, nil if none is asked for. It is looked for in the places.
func (f *packageFlags) lock(places ...string) (*system.Lock, error) {
	switch f.locked {
	case "":
		return nil, nil
	case system.LockFile:
		places = slices.DeleteFunc(places, func(place string) bool { return place == "" })
		for _, place := range places {
			name := filepath.Join(place, system.LockFile)
			if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				return system.ReadLock(name)
			}
		}
		return nil, &usageError{err: fmt.Errorf("--locked: there is no %s in %s; name it with --locked=FILE", system.LockFile, strings.Join(places, " or "))}
	}
	return system.ReadLock(f.locked)
}

// selections is what the flags select, and the image types where they are several, for a command that makes images.
func (f *buildFlags) selections(s *session, cmd *cobra.Command) (description.Selection, []string, error) {
	several := len(f.types) > 1 || slices.Contains(f.types, system.AllTypes)
	if !several || f.target == "" {
		sel, err := f.selection(s, cmd.CommandPath())
		return sel, nil, err
	}
	for i, name := range f.types {
		switch {
		case name == "":
			return description.Selection{}, nil, &usageError{err: errors.New("--type has an empty name in its list"), command: cmd.CommandPath()}
		case slices.Contains(f.types[:i], name):
			return description.Selection{}, nil, &usageError{err: fmt.Errorf("--type names %s twice", name), command: cmd.CommandPath()}
		case name == system.AllTypes && len(f.types) > 1:
			return description.Selection{}, nil, &usageError{err: errors.New("--type all stands alone"), command: cmd.CommandPath()}
		}
	}
	one := f.selectionFlags
	one.types = nil
	sel, err := one.selection(s, cmd.CommandPath())
	return sel, f.types, err
}

// imageDir is where a root tree that is given has its description and its lock; "" without one.
func (f *buildFlags) imageDir() string {
	if f.root == "" {
		return ""
	}
	return filepath.Join(f.root, "image")
}

// options turns the flags into what package system takes. The registries are spoken to through the client that it opens; done closes that.
func (f *buildFlags) options(s *session, cmd *cobra.Command) (opts system.Options, done func() error, err error) {
	done = func() error { return nil }
	opts = system.Options{
		Description: f.description, File: f.file, Builder: f.packages.builder, PackageCache: f.packages.directory(cmd),
		CacheIfPossible: !cmd.Flags().Changed("package-cache") && f.packages.sharedDir == "", ClearCache: f.packages.clearCache,
		Offline: f.packages.offline, OpenBuildService: f.packages.service, ShellOnError: f.packages.shell, LockFile: f.packages.lockFile, Progress: s.display, Log: s.log,
	}
	if opts.Selection, opts.Types, err = f.selections(s, cmd); err != nil {
		return opts, done, err
	}
	config, err := settings.Load(f.config)
	if err != nil {
		return opts, done, err
	}
	apply(config, &opts)
	if opts.Stack, err = f.stackFlags.options(s, f.containers); err != nil {
		return opts, done, err
	}
	if opts.Overrides, err = f.overrides.overrides(); err != nil {
		return opts, done, &usageError{err: err, command: cmd.CommandPath()}
	}
	if err := errors.Join(f.container.apply(&opts), f.sign.apply(s.stdin, &opts)); err != nil {
		return opts, done, &usageError{err: err, command: cmd.CommandPath()}
	}
	if opts.Locked, err = f.packages.lock(f.description, f.target, f.imageDir()); err != nil {
		return opts, done, err
	}
	if opts.Repro, err = repro.FromEnvironment(); err != nil {
		return opts, done, err
	}
	var client *registry.Client
	opts.Client = sync.OnceValues(func() (*registry.Client, error) {
		client, err = s.client(cmd, &f.storeFlags)
		return client, err
	})
	done = func() error {
		if client == nil {
			return nil
		}
		return client.Close()
	}
	return opts, done, nil
}

// apply puts KIWI's runtime configuration into the options of a build.
func apply(config *settings.Settings, opts *system.Options) {
	opts.OpenBuildService = cmp.Or(opts.OpenBuildService, config.OBS.DownloadURL)
	opts.Settings = imagetypes.Settings{XZ: config.XZOptions, BundleCompress: config.BundleCompress, MaxSize: config.MaxSize, NoChanges: config.PackageChanges != nil && !*config.PackageChanges}
	opts.Container.XZ = config.ContainerCompress != nil && *config.ContainerCompress
}

// run runs a command of package system with the options of the flags.
func (f *buildFlags) run(s *session, cmd *cobra.Command, work func(system.Options) error) error {
	opts, done, err := f.options(s, cmd)
	if err != nil {
		return err
	}
	return errors.Join(work(opts), done())
}
