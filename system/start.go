package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/stack"
)

// start finds the tree that a build starts from: an existing root tree if one is given, or else a stack, or the containers that the description is
// derived from, or nothing.
func (j *job) start(ctx context.Context, existing string) error {
	switch {
	case len(j.Stack.Containers) > 0:
		return j.startFromStack(ctx)
	case existing != "":
		if err := j.scan(ctx, existing); err != nil {
			return err
		}
		return j.openBase(ctx)
	case j.image != nil && len(j.image.Type.DerivedFrom) > 0:
		return j.startFromBase(ctx)
	}
	j.tree = layers.NewTree()
	return nil
}

// scan starts from an existing root tree.
func (j *job) scan(ctx context.Context, root string) error {
	tree, notes, err := layers.ScanDir(ctx, root, layers.ScanOptions{OneFileSystem: true, KeepVolatile: true})
	if err != nil {
		return err
	}
	for _, note := range notes {
		j.Log.Debug("not kept of the root tree", "path", note.Path, "reason", note.Text)
	}
	if err := userns.WarnForeign(j.Log, root, "start from a tar archive or a container of it"); err != nil {
		return err
	}
	j.tree = tree
	known, err := lockOf(tree)
	if err != nil {
		return fmt.Errorf("reading the root tree %s: %w", root, err)
	}
	j.known, j.found = known, known
	return nil
}

func (j *job) startFromStack(ctx context.Context) error {
	if err := j.makeStack(ctx, useStack, j.Stack.Containers); err != nil {
		return err
	}
	if j.image == nil {
		last := len(j.stack.Trees) - 1
		return j.loadFromTree(j.stack.Trees[last], "container "+j.stack.Report.Containers[last].Name, "give one with --description")
	}
	return nil
}

// makeStack fetches containers and puts them over each other.
func (j *job) makeStack(ctx context.Context, use string, names []string) error {
	client, err := j.Client()
	if err != nil {
		return err
	}
	opts := j.Stack
	opts.Containers = make([]string, len(names))
	for i, name := range names {
		if opts.Containers[i], err = j.Locked.pin(use, name); err != nil {
			return err
		}
	}
	s, err := stack.Make(ctx, client, opts)
	if err != nil {
		return err
	}
	j.closers = append(j.closers, s.Close)
	j.stack, j.tree = s, s.Tree
	for i, c := range s.Report.Containers {
		used := LockedContainer{Use: use, Name: names[i], Digest: c.Digest}
		if err := j.Locked.matches(used); err != nil {
			return err
		}
		j.used.Containers = append(j.used.Containers, used)
	}
	return nil
}

// startFromBase starts from what the description is derived from. Of several containers a later one lies over the earlier ones.
func (j *job) startFromBase(ctx context.Context) error {
	names, err := j.baseNames(ctx)
	if err != nil {
		return err
	}
	if j.Stack.Fetch.Platform == "" {
		j.Stack.Fetch.Platform = platformOf(j.image.Arch)
	}
	if err := j.makeStack(ctx, useBase, names); err != nil {
		return fmt.Errorf("%s: fetching what the image is derived from: %w", j.image.Type.At("derived_from"), err)
	}
	j.base = &image.Base{Name: j.image.Type.DerivedFrom[0], Image: j.stack.Images[0].Image, Tree: j.stack.Trees[0]}
	return nil
}

// openBase fetches the container that an existing root tree is derived from, for builders that add a layer to it.
func (j *job) openBase(ctx context.Context) error {
	if j.image == nil || len(j.image.Type.DerivedFrom) == 0 {
		return nil
	}
	tree := j.tree
	if err := j.startFromBase(ctx); err != nil {
		return err
	}
	j.tree, j.known.Containers = tree, nil // they are among those used now
	return nil
}

// baseNames are the containers that the description is derived from, as package registry knows them.
func (j *job) baseNames(ctx context.Context) ([]string, error) {
	var names []string
	for _, uri := range j.image.Type.DerivedFrom {
		name, err := j.baseName(ctx, uri)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, j.image.Type.Errorf("derived_from", "correct its name; it counts from the description's directory", "there is no archive %s", uri)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: finding the container %s: %w", j.image.Type.At("derived_from"), uri, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// baseName translates KIWI's forms: docker://NAME, obs://PROJECT/REPOSITORY/IMAGE#TAG and file://ARCHIVE. Others are names as everywhere.
func (j *job) baseName(ctx context.Context, uri string) (string, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return uri, nil
	}
	switch scheme {
	case "docker":
		if name, ok := strings.CutPrefix(rest, "//"); ok && j.Offline { // what was pulled is in the store
			return name, nil
		}
	case "file":
		parsed, err := url.Parse(uri)
		if err != nil {
			return "", err
		}
		path := parsed.Path + parsed.Opaque
		if parsed.Host != "localhost" { // else it is the first directory of a relative path
			path = parsed.Host + path
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(j.image.Dir, path)
		}
		return archiveName(ctx, path)
	case "obs":
		return j.publishedName(strings.TrimPrefix(rest, "//"))
	}
	return uri, nil
}

// archiveName says which kind of archive a file is.
func archiveName(ctx context.Context, path string) (string, error) {
	if info, err := os.Stat(path); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file, and no archive of a container", path)
	}
	var reasons []error
	for _, transport := range []reference.Transport{reference.OCIArchive, reference.DockerArchive} {
		a, err := archive.Open(ctx, reference.Reference{Transport: transport, Path: path}, archive.Options{})
		if err == nil {
			return string(transport) + ":" + path, a.Close()
		}
		if inner := errors.Unwrap(err); inner != nil { // without the name of the archive
			err = inner
		}
		reasons = append(reasons, err)
	}
	if reasons[0].Error() == reasons[1].Error() {
		return "", fmt.Errorf("reading the archive %s: %w", path, reasons[0])
	}
	return "", fmt.Errorf("%s is no archive of a container: %w; %w", path, reasons[0], reasons[1])
}

// publishedName is where the Open Build Service publishes a container of a project: in its registry, the project's colons as slashes, lower-case.
func (j *job) publishedName(rest string) (string, error) {
	rest, tag, _ := strings.Cut(rest, "#")
	project, path, ok := strings.Cut(rest, "/")
	if !ok || project == "" || path == "" {
		return "", errors.New("obs:// is followed by PROJECT/REPOSITORY/IMAGE#TAG")
	}
	host := "registry.opensuse.org"
	if j.OpenBuildService != "" {
		service, err := url.Parse(j.OpenBuildService)
		if err != nil || service.Host == "" {
			return "", fmt.Errorf("--obs-url %q is no address", j.OpenBuildService)
		}
		if _, domain, ok := strings.Cut(service.Hostname(), "."); ok && service.Hostname() != "download.opensuse.org" {
			host = "registry." + domain
		}
	}
	name := host + "/" + strings.ToLower(strings.ReplaceAll(project, ":", "/")+"/"+path)
	if tag != "" {
		name += ":" + tag
	}
	return name, nil
}

// platformOf is the platform of containers for an architecture of descriptions; empty means this machine's.
func platformOf(arch string) string {
	for machine, platform := range map[string]string{
		"x86_64": "linux/amd64", "aarch64": "linux/arm64", "i586": "linux/386", "i686": "linux/386", "armv7l": "linux/arm/v7", "armv6l": "linux/arm/v6",
		"ppc64le": "linux/ppc64le", "s390x": "linux/s390x", "riscv64": "linux/riscv64",
	} {
		if machine == arch {
			return platform
		}
	}
	return ""
}

// builder returns what opens the container with the package manager, nil if none is named.
func (j *job) builder() func(context.Context) (*layers.Tree, error) {
	if j.Builder == "" {
		return nil
	}
	return func(ctx context.Context) (*layers.Tree, error) {
		client, err := j.Client()
		if err != nil {
			return nil, err
		}
		name, err := j.Locked.pin(useBuilder, j.Builder)
		if err != nil {
			return nil, err
		}
		fetch := registry.FetchOptions{From: j.Stack.Fetch.From, Pull: j.Stack.Fetch.Pull} // its programs run here, whatever the image is for
		found, err := client.Fetch(ctx, name, fetch)
		if err != nil {
			return nil, fmt.Errorf("fetching the builder container: %w", err)
		}
		used := LockedContainer{Use: useBuilder, Name: j.Builder, Digest: found.Digest.String()}
		if err := j.Locked.matches(used); err != nil {
			return nil, err
		}
		tree, err := container.Open(ctx, found.Image, found, container.Options{Log: j.Log})
		if err != nil {
			return nil, fmt.Errorf("reading the builder container %s: %w", j.Builder, err)
		}
		j.closers = append(j.closers, tree.Close)
		j.used.Containers = append(j.used.Containers, used)
		return tree.Tree, nil
	}
}

// pinned adds a digest to the name of a container that a registry may be asked for; archives are what they are.
func pinned(name, sum string) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", err
	}
	if ref.Transport != reference.None && ref.Transport != reference.Docker {
		return name, nil
	}
	ref.Transport, ref.Digest = reference.None, digest.Digest(sum) // by its digest it is the same one in the store
	return ref.String(), nil
}
