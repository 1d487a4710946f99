package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/description"
)

// kiwiGlobals are the options that kiwi-ng has before its commands.
const kiwiGlobals = "color-output config debug debug-run-scripts-in-screen kiwi-file logfile loglevel logsocket profile shared-cache-dir target-arch temp-dir type"

// kiwiOptions are the options that kiwi-ng (9.25 to 10) has behind a command. It accepts any beginning of one that is not the beginning of another one at the same
// place, so that what imgbuild has besides must not make it ambiguous.
func kiwiOptions(command string) string {
	const (
		repos = " ignore-repos add-repo add-repo-credentials signing-key"
		tree  = "description allow-existing-root clear-cache ignore-repos-used-for-build set-repo set-repo-credentials add-package add-bootstrap-package delete-package" +
			" set-container-derived-from set-container-tag add-container-label set-type-attr set-release-version ca-cert ca-target-distribution" + repos
	)
	switch command {
	case "prepare":
		return tree + " root"
	case "build":
		return tree + " target-dir"
	case "stackbuild":
		return tree + " target-dir stash from-registry"
	case "create":
		return "root target-dir signing-key"
	case "update":
		return "root add-package delete-package"
	case "info":
		return "description resolve-package-list list-profiles print-kiwi-env print-xml print-yaml print-toml ignore-repos add-repo"
	case "stash":
		return "root tag container-name list"
	case "list":
		return "target-dir"
	case "bundle":
		return "target-dir id bundle-dir bundle-format zsync-source package-as-rpm no-compress"
	}
	return ""
}

// spellOut replaces abbreviated long options by their names: any beginning that is not that of another option. One that is ambiguous is an error of usage.
func spellOut(root *cobra.Command, args []string) ([]string, error) {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return args, nil // the shell asks how to go on
	}
	out := make([]string, 0, len(args))
	cmd := root
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			if cmd.Name() != "stackbuild" { // which has build arguments there
				return append(out, args[i:]...), nil
			}
		} else if !strings.HasPrefix(word, "--") {
			if sub := subcommand(cmd, word); sub != nil {
				cmd = sub
			}
		} else {
			name, value, has := strings.Cut(word[2:], "=")
			flag, err := findFlag(cmd, name)
			if err != nil {
				return nil, err
			}
			if flag != nil {
				word = "--" + flag.Name
				if has {
					word += "=" + value
				}
				if flag.NoOptDefVal == "" && !has && i+1 < len(args) {
					out, i = append(out, word), i+1
					word = args[i]
				}
			}
		}
		out = append(out, word)
	}
	return out, nil
}

// subcommand is the command of this name below another one, nil if there is none.
func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(cmd.Commands(), func(sub *cobra.Command) bool { return sub.Name() == name || sub.HasAlias(name) })
	if i < 0 {
		return nil
	}
	return cmd.Commands()[i]
}

// findFlag returns the flag that a name or its beginning stands for where this command has been read, nil if there is none.
func findFlag(cmd *cobra.Command, name string) (*pflag.Flag, error) {
	flags, kiwi := knownFlags(cmd), kiwiOptions(cmd.Name())
	if cmd.HasSubCommands() {
		kiwi = kiwiGlobals
	}
	if flag := flags[name]; flag != nil || name == "" {
		return flag, nil
	}
	var candidates, first []string
	for full := range flags {
		if strings.HasPrefix(full, name) {
			candidates = append(candidates, full)
			if slices.Contains(strings.Fields(kiwi), full) {
				first = append(first, full)
			}
		}
	}
	switch {
	case len(first) == 1:
		return flags[first[0]], nil
	case len(candidates) == 1:
		return flags[candidates[0]], nil
	case len(candidates) == 0:
		return nil, nil //nolint:nilnil // there is none
	}
	slices.Sort(candidates)
	return nil, &usageError{err: fmt.Errorf("--%s is not clear; did you mean --%s?", name, strings.Join(candidates, ", --")), command: cmd.CommandPath()}
}

// knownFlags are the flags that may stand where this command has been read: before a command's name those of the building ones too, as [commandFirst] has it.
func knownFlags(cmd *cobra.Command) map[string]*pflag.Flag {
	cmd.InitDefaultHelpFlag() // cobra has not done it yet
	cmd.Root().InitDefaultVersionFlag()
	sets := []*pflag.FlagSet{cmd.Flags(), cmd.InheritedFlags(), cmd.Root().PersistentFlags()}
	if build := subcommand(cmd.Root(), "build"); build != nil && cmd.HasSubCommands() {
		sets = append(sets, build.Flags())
	}
	flags := map[string]*pflag.Flag{}
	for _, set := range sets {
		set.VisitAll(func(f *pflag.Flag) { flags[f.Name] = f })
	}
	return flags
}

// unknownFlag adds the way out to the error for a flag that a command does not have.
func unknownFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	const certificates = "let the description's post_bootstrap.sh add certificates to the system's: it runs before the image packages are installed"
	hint := map[string]string{ // what kiwi-ng 10 has
		"ca-cert": certificates, "ca-target-distribution": certificates,
		"setenv":         "set variables in the description's scripts",
		"list-profiles":  "'imgbuild image info --print-yaml' shows them",
		"print-kiwi-env": "'imgbuild prepare' leaves it as .profile in the root tree",
		"no-compress":    "give --compression none",
	}[unknown.GetSpecifiedName()]
	if hint == "" {
		names := []string{}
		for _, name := range slices.Sorted(maps.Keys(knownFlags(cmd))) {
			names = append(names, "--"+name)
		}
		hint = description.DidYouMean("--"+unknown.GetSpecifiedName(), names, "")
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}
