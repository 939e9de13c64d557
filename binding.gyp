{
  # The native core: one Node-API binary for every Node from 20 on. No sources outside native/, no other
  # package's headers; `scripts/build-native.mjs` shows how it is built without downloads.
  'targets': [
    {
      'target_name': 'millrace',
      'sources': [
        'native/binding.cc',
        'native/arena_pages.cc',
        'native/chunk_arena.cc',
        'native/frame.cc',
        'native/ready_queue.cc',
        'native/task_batches.cc',
        'native/task_binding.cc',
        'native/task_cuts.cc',
        'native/task_keys.cc',
        'native/task_limits.cc',
        'native/task_segments.cc',
        'native/task_slab.cc',
        'native/task_table.cc',
        'native/task_table_check.cc',
        'native/timing_wheel.cc',
        'native/timing_wheel_check.cc',
        'native/timing_wheel_reclaim.cc',
      ],
      'defines': ['NAPI_VERSION=8'],
      'conditions': [
        ['OS!="win"', {
          'cflags!': ['-fno-omit-frame-pointer'],
          'cflags_cc!': ['-std=gnu++20', '-std=gnu++1y', '-std=gnu++14'],
          'cflags_cc': [
            '-std=c++17', '-fno-exceptions', '-fno-rtti', '-fvisibility=hidden',
            '-fvisibility-inlines-hidden', '-Wall', '-Wextra', '-Wshadow', '-Wno-unused-parameter',
          ],
        }],
        ['OS=="linux"', {
          # The C++ library is linked in, so that a machine with an older one can load the binary.
          'ldflags': [
            '-static-libstdc++', '-static-libgcc',
            '-Wl,--version-script=<(module_root_dir)/native/exports.map',
          ],
        }],
        ['OS=="mac"', {
          'xcode_settings': {
            'CLANG_CXX_LANGUAGE_STANDARD': 'c++17',
            'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
            'GCC_ENABLE_CPP_RTTI': 'NO',
            'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
          },
        }],
        ['OS=="win"', {
          'msvs_settings': {
            'VCCLCompilerTool': {
              'AdditionalOptions': ['/std:c++17'],
              'ExceptionHandling': 0,
              'RuntimeTypeInfo': 'false',
            },
          },
        }],
      ],
      'configurations': {
        'Debug': { 'defines': ['MILLRACE_CHECK=1'] },
      },
    },
  ],
}
