package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// setting is something that a description may say of packages and their repositories.
type setting struct {
	name, place string // place is one of those of attributesTemplate
	also        string // what else stands there, with and without it
	// texts are what may stand there: it is enough that one of them makes a difference, since another one may be the default.
	texts []string
}

// settings are those that package managers are asked to obey.
func settingsOfPackages() []setting {
	attr := func(place, name string, values ...string) setting {
		s := setting{name: place + "@" + name, place: place}
		for _, value := range values {
			s.texts = append(s.texts, fmt.Sprintf(" %s=%q", name, value))
		}
		return s
	}
	element := func(place, name, text string) setting {
		return setting{name: name, place: place, texts: []string{text}}
	}
	components := attr("repository", "components", "one two")
	components.also = ` distribution="stable"` // else apt has a flat repository, and says that they are left out
	return []setting{
		attr("repository", "type", "rpm-dir", "deb-dir", "mirrors", "apt-rpm"), attr("repository", "priority", "7", "200"), attr("repository", "imageinclude", "true"), attr("repository", "imageonly", "true"),
		attr("repository", "username", "ann"), attr("repository", "password", "s3cret"), components, attr("repository", "components", "one two"), attr("repository", "distribution", "stable"),
		attr("repository", "customize", "edit.sh"), attr("repository", "sourcetype", "mirrorlist"), attr("repository", "sourcetype", "metalink"), attr("repository", "package_gpgcheck", "true", "false"),
		attr("repository", "repository_gpgcheck", "true", "false"), attr("repository", "use_for_bootstrap", "true"), attr("repository", "profiles", "Other"),
		element("source", "signing", "<signing key=\"file:KEY\"/>"),
		attr("packages", "patternType", "plusRecommended"), attr("packages", "profiles", "Other"), attr("packages", "bootstrap_package", "first"),
		attr("package", "arch", "s390x"), attr("package", "bootinclude", "true"), attr("package", "bootdelete", "true"),
		element("more", "ignore", `<ignore name="base"/>`), element("more", "namedCollection", `<namedCollection name="many"/>`), element("more", "product", `<product name="thing"/>`),
		element("more", "collectionModule", `<collectionModule name="web" stream="1" enable="true"/>`), element("more", "package", `<package name="second"/>`),
		element("preferences", "release-version", "<release-version>9</release-version>"), element("preferences", "rpm-excludedocs", "<rpm-excludedocs>true</rpm-excludedocs>"),
		element("preferences", "rpm-locale-filtering", "<rpm-locale-filtering>true</rpm-locale-filtering>"), element("preferences", "rpm-check-signatures", "<rpm-check-signatures>true</rpm-check-signatures>"),
		element("sections", "uninstall", `<packages type="uninstall"><package name="base"/></packages>`), element("sections", "delete", `<packages type="delete"><package name="base"/></packages>`),
	}
}

// attributesTemplate is a description with places for settings.
const attributesTemplate = `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="VERSION" name="test">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <profiles><profile name="Other" description="Other"/></profiles>
  <preferences><version>1.0.0</version><packagemanager>MANAGER</packagemanager><locale>en_US</locale>{preferences}<type image="oci"/></preferences>
  <repository alias="tests"{repository}>
    <source path="http://127.0.0.1:9/x">{source}</source></repository>
  <repository alias="second"><source path="http://127.0.0.1:9/y"/></repository>
  <packages type="bootstrap"{packages}>
    <package name="base"{package}/>{more}</packages>
  {sections}
</image>
`

// TestNothingIsIgnored says one thing more in a description and looks whether that makes a difference, for each package manager and each thing that can be said: in what
// the manager is called with, in an error, or in a warning that has its place. The programs are not run.
func TestNothingIsIgnored(t *testing.T) {
	key := testrepos.NewKey(t, "one")
	for manager := range kinds() {
		t.Run(manager, func(t *testing.T) {
			tell := func(place, text string) string {
				version := "7.6" // the last one with all of it, but for a package manager
				if manager == "apk" {
					version = "8.2"
				}
				all := strings.ReplaceAll(attributesTemplate, "{"+place+"}", text)
				all = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(all, "")
				return traced(t, manager, strings.NewReplacer("MANAGER", manager, "VERSION", version, "KEY", key.Public).Replace(all))
			}
			for _, s := range settingsOfPackages() {
				without := tell(s.place, s.also)
				if !slices.ContainsFunc(s.texts, func(text string) bool { return tell(s.place, s.also+text) != without }) {
					t.Errorf("%s ignores %s", manager, s.name)
				}
			}
		})
	}
}

// traced is all that comes of a description: warnings, the image's files, command lines and files of programs, the log, and errors.
func traced(t *testing.T, manager, xml string) string {
	t.Helper()
	var trace bytes.Buffer
	dir, err := os.MkdirTemp("", "traced-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{"config.xml": xml, "edit.sh": "echo\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := traceInto(t.Context(), &trace, manager, dir); err != nil {
		fmt.Fprintf(&trace, "error: %v\n", err)
	}
	text := strings.ReplaceAll(trace.String(), dir, "DIR")
	return regexp.MustCompile(`\.(apt|dnf|zypper|pacman|apk|customize)-[0-9]+`).ReplaceAllString(text, ".SESSION")
}

func traceInto(ctx context.Context, trace *bytes.Buffer, manager, dir string) error {
	doc, err := description.Load(dir, description.LoadOptions{})
	if err != nil {
		return err
	}
	image, err := doc.Resolve(description.Selection{Arch: "x86_64"})
	if err != nil {
		return err
	}
	first := image.Packages.Bootstrap // what the managers do with names is tested with their programs
	fmt.Fprintf(trace, "warnings: %v\npackages %q, collections %q\n", image.Warnings, description.Names(first.Packages), description.Names(first.Collections))
	source := files.Source{Dir: dir, FS: os.DirFS(dir)}
	set, err := repositories.Open(ctx, repositories.Options{Image: image, Files: source, Workdir: dir})
	if err != nil {
		return err
	}
	change := func(r repositories.Repository, _ string, data []byte) ([]byte, error) { return data, nil }
	edit := layers.NewTree().Edit(layers.Timespec{})
	notes, err := kinds()[manager].write(edit, set, change)
	if err != nil {
		return err
	}
	fmt.Fprintf(trace, "notes: %q\n", notes)
	err = edit.Tree().Walk(func(name string, n *layers.Node) error {
		if !n.IsRegular() {
			return nil
		}
		data, err := edit.Tree().ReadFile(name, 1<<20)
		fmt.Fprintf(trace, "%s: %s\n", name, data)
		return err
	})
	if err != nil {
		return err
	}
	runs := func(_ context.Context, spec sandbox.Spec) error {
		fmt.Fprintf(trace, "run: %q\n", spec.Args)
		for _, f := range spec.Files {
			fmt.Fprintf(trace, "%s:\n%s\n", f.Path, f.Data)
		}
		return nil
	}
	log := slog.New(slog.NewTextHandler(trace, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	session, err := kinds()[manager].open(ctx, packages.Options{
		Image: image, Repositories: set, Files: source, Workdir: dir, Arch: "x86_64", Progress: progress.Discard, Log: log, Inside: runs, Outside: runs,
		Tree:     func(context.Context) (*layers.Tree, error) { return layers.NewTree(), nil },
		Unpacked: func(context.Context) (string, error) { return "", fs.ErrNotExist },
	})
	if err != nil {
		return err
	}
	for what, err := range map[string]error{
		"bootstrap": session.Bootstrap(ctx, image.Packages.Bootstrap), "close": session.Close(),
	} {
		if err != nil {
			fmt.Fprintf(trace, "%s: %v\n", what, err)
		}
	}
	fmt.Fprintf(trace, "uninstall %q, delete %q\n", description.Names(image.Packages.Uninstall), description.Names(image.Packages.Delete))
	return nil
}
