package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/description/settings"
	"github.com/imgbuild/imgbuild/imagetypes/results"
)

func newResult(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "result",
		Short:   "List the results of a build, or bundle them for publishing",
		GroupID: groupMachines,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newResultList(s), newResultBundle(s))
	return cmd
}

func newResultList(s *session) *cobra.Command {
	var target string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list --target-dir DIR",
		Short:   "List the results of a build",
		Long:    "List what a build has left in its target directory, as its kiwi.result.json has it.",
		Example: "  imgbuild result list --target-dir out",
		Args:    cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			list, err := results.ReadList(target)
			if err != nil {
				return err
			}
			if asJSON {
				return s.writeJSON(list.Results)
			}
			header, several := []string{"RESULT", "SIZE", "IN BUNDLE", "FILE"}, slices.ContainsFunc(list.Results, func(r results.Result) bool { return r.Type != "" })
			if several {
				header = slices.Insert(header, 1, "TYPE")
			}
			var rows [][]string
			for _, r := range list.Results {
				row := []string{r.Key, size(r.Size), strconv.FormatBool(r.Bundle), r.Path}
				if several {
					row = slices.Insert(row, 1, r.Type)
				}
				rows = append(rows, row)
			}
			return table(s.stdout, header, rows)
		},
	}
	cmd.Flags().StringVar(&target, "target-dir", "", "the `directory` of the results")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("target-dir") // the flag is defined above
	return cmd
}

func newResultBundle(s *session) *cobra.Command {
	var opts results.BundleOptions
	var asJSON, asRPM bool
	var config string
	cmd := &cobra.Command{
		Use:   "bundle --target-dir DIR --id ID --bundle-dir DIR",
		Short: "Copy the results of a build into a directory for publishing",
		Long: `Copy the results of a build into another directory, under names that have an id behind the version or
follow a pattern, compressed where that makes sense, and with a file NAME.sha256 beside each.

The pattern's parts are %N name, %P profiles, %A architecture, %I id, %T type, %v version, and %M %m %p the
version's first three numbers.`,
		Example: `  imgbuild result bundle --target-dir out --id Build42 --bundle-dir publish
  imgbuild result bundle --target-dir out --id 42 --bundle-dir publish --bundle-format '%N-%v-%A-%I'
  imgbuild result bundle --target-dir out --id 42 --bundle-dir publish --zsync-source https://example.org/images`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asRPM {
				return &usageError{err: errors.New("--package-as-rpm is not possible; make the package of the bundle with rpmbuild"), command: cmd.CommandPath()}
			}
			if err := opts.Validate(); err != nil {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			runtime, err := settings.Load(config)
			if err != nil {
				return err
			}
			for _, w := range runtime.Warnings {
				s.log.Warn(w)
			}
			opts.XZ = runtime.XZOptions
			opts.Progress = s.display
			files, err := results.Bundle(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if asJSON {
				return s.writeJSON(files)
			}
			var rows [][]string
			for _, f := range files {
				rows = append(rows, []string{f.Key, size(f.Size), filepath.Base(f.Path)})
			}
			return table(s.stdout, []string{"RESULT", "SIZE", "FILE"}, rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Target, "target-dir", "", "the `directory` of the results")
	f.StringVar(&opts.ID, "id", "", "the `id` of the bundle, such as a build's number")
	f.StringVar(&opts.Dir, "bundle-dir", "", "the `directory` of the bundle, another one than the results'")
	f.StringVar(&opts.Pattern, "bundle-format", "", "the `pattern` of the names (default: the description's bundle_format)")
	f.StringVar(&opts.Compression, "compression", "xz", "how files are compressed that are to be: xz, gzip, zstd or none")
	f.StringVar(&opts.ZsyncSource, "zsync-source", "", "the `address` that the bundle will be downloaded from: makes a file NAME.zsync beside each")
	f.StringVar(&config, "config", "", "KIWI's runtime configuration, a YAML `file` (default: ~/.config/kiwi/config.yml, or /etc/kiwi.yml)")
	f.BoolVar(&asRPM, "package-as-rpm", false, "")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	_ = f.MarkHidden("package-as-rpm")
	for _, name := range []string{"target-dir", "id", "bundle-dir"} {
		_ = cmd.MarkFlagRequired(name) // the flags are defined above
	}
	return cmd
}
