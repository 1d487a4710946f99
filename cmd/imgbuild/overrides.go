package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/description"
)

// overrideFlags change a description for one build. They are those of kiwi-ng system build.
type overrideFlags struct {
	addPackages, bootstrapPackages, deletePackages []string
	setRepo, setCredentials                        string
	addRepos, addCredentials                       []string
	ignoreRepos, ignoreBuildRepos                  bool
	signingKeys                                    []string
	derivedFrom                                    string
	tag                                            string
	labels                                         []string
	attributes                                     []string
	release                                        string
}

// repositoryForm tells in a command's help how --add-repo and --set-repo name a repository.
const repositoryForm = `

A repository of --add-repo and --set-repo is a list of values: source, type, alias, priority, imageinclude,
package_gpgcheck, {key;key}, components, distribution, repo_gpgcheck, sourcetype. Values may be empty, and
missing at the end: http://deb.debian.org/debian,apt-deb,bookworm,,true,,,main contrib,bookworm`

func (f *overrideFlags) registerRepos(flags *pflag.FlagSet) {
	flags.BoolVar(&f.ignoreRepos, "ignore-repos", false, "leave out all repositories of the description")
	flags.StringArrayVar(&f.addRepos, "add-repo", nil, "add a `repository`; repeatable")
	flags.StringArrayVar(&f.addCredentials, "add-repo-credentials", nil, "`user:password` for the --add-repo of the same rank, or better a file whose first line that is; repeatable")
}

func (f *overrideFlags) registerPackages(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.addPackages, "add-package", nil, "add a `package`; repeatable")
	flags.StringArrayVar(&f.deletePackages, "delete-package", nil, "delete a `package`; repeatable")
}

func (f *overrideFlags) registerKeys(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.signingKeys, "signing-key", nil, "a `file` with a public key that repositories are signed with; repeatable")
}

// register registers all of them.
func (f *overrideFlags) register(flags *pflag.FlagSet) {
	f.registerRepos(flags)
	f.registerPackages(flags)
	f.registerKeys(flags)
	flags.BoolVar(&f.ignoreBuildRepos, "ignore-repos-used-for-build", false, "leave out the repositories that packages are installed from; those for the image alone stay")
	flags.StringVar(&f.setRepo, "set-repo", "", "replace the first `repository`")
	flags.StringVar(&f.setCredentials, "set-repo-credentials", "", "`user:password` for --set-repo, or better a file whose first line that is")
	flags.StringArrayVar(&f.bootstrapPackages, "add-bootstrap-package", nil, "add a `package` to those that are installed first; repeatable")
	flags.StringVar(&f.derivedFrom, "set-container-derived-from", "", "the `container` to start from, as the attribute derived_from gives it")
	flags.StringVar(&f.tag, "set-container-tag", "", "the `tag` of the container that is built")
	flags.StringArrayVar(&f.labels, "add-container-label", nil, "add a label `name=value` to the container that is built; repeatable")
	flags.StringArrayVar(&f.attributes, "set-type-attr", nil, "set an attribute of the image type, `attribute=value`; repeatable")
	flags.StringVar(&f.release, "set-release-version", "", "the `version` of the distribution, in the place of <release-version>")
}

func (f *overrideFlags) overrides() (description.Overrides, error) {
	o := description.Overrides{AddPackages: f.addPackages, AddBootstrapPackages: f.bootstrapPackages, DeletePackages: f.deletePackages,
		IgnoreRepos: f.ignoreRepos, IgnoreReposUsedForBuild: f.ignoreBuildRepos, ContainerTag: f.tag, ReleaseVersion: f.release}
	if f.derivedFrom != "" {
		o.DerivedFrom = []string{f.derivedFrom}
	}
	var err error
	if o.ContainerLabels, err = assignments("add-container-label", f.labels); err != nil {
		return o, err
	}
	if o.TypeAttributes, err = assignments("set-type-attr", f.attributes); err != nil {
		return o, err
	}
	if o.SigningKeys, err = absolute(f.signingKeys); err != nil {
		return o, fmt.Errorf("--signing-key: %w", err)
	}
	var errs []error
	if f.setRepo != "" {
		repo, err := repository(f.setRepo, f.setCredentials)
		o.SetRepo = &repo
		errs = append(errs, prefixed("--set-repo", err))
	} else if f.setCredentials != "" {
		errs = append(errs, errors.New("--set-repo-credentials is there without --set-repo"))
	}
	if len(f.addCredentials) > len(f.addRepos) {
		errs = append(errs, fmt.Errorf("--add-repo-credentials is there more often (%d) than --add-repo (%d)", len(f.addCredentials), len(f.addRepos)))
	}
	for i, spec := range f.addRepos {
		credentials := ""
		if i < len(f.addCredentials) {
			credentials = f.addCredentials[i]
		}
		repo, err := repository(spec, credentials)
		o.AddRepos = append(o.AddRepos, repo)
		errs = append(errs, prefixed("--add-repo", err))
	}
	return o, errors.Join(errs...)
}

func prefixed(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// repository reads a repository and its credentials.
func repository(spec, credentials string) (description.Repository, error) {
	repo, err := description.ParseRepository(spec)
	if err != nil || credentials == "" {
		return repo, err
	}
	if file, err := os.Open(credentials); err == nil {
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Scan() // the first line
		if err := lines.Err(); err != nil {
			return repo, fmt.Errorf("reading credentials: %w", err)
		}
		credentials = strings.TrimSpace(lines.Text())
	}
	var ok bool
	if repo.Username, repo.Password, ok = strings.Cut(credentials, ":"); !ok {
		return repo, errors.New("credentials are neither user:password nor a file whose first line that is")
	}
	return repo, nil
}

// assignments reads what was given to a flag as NAME=VALUE.
func assignments(flag string, list []string) (map[string]string, error) {
	values := map[string]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--%s %q is not NAME=VALUE", flag, text)
		}
		values[name] = value
	}
	return values, nil
}

// absolute makes paths of files independent of the directory that relative ones in a description are relative to.
func absolute(files []string) ([]string, error) {
	list := make([]string, len(files))
	for i, file := range files {
		if strings.Contains(file, "://") {
			list[i] = file
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		list[i] = path
	}
	return list, nil
}
