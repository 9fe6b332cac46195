# The CUDA backend: built wherever nvcc is found, unless BRAID_CUDA says otherwise.
set(BRAID_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO (where nvcc is found)")
set_property(CACHE BRAID_CUDA PROPERTY STRINGS AUTO ON OFF)
set(BRAID_HAVE_CUDA OFF)
set(BRAID_HAVE_CUDNN OFF)

if(NOT BRAID_CUDA STREQUAL "OFF")
  find_program(BRAID_NVCC nvcc PATHS /usr/local/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin)
  if(BRAID_NVCC AND NOT BRAID_SANITIZE AND NOT BRAID_FUZZ)
    set(BRAID_HAVE_CUDA ON)
  elseif(BRAID_CUDA STREQUAL "ON")
    message(FATAL_ERROR "BRAID_CUDA is ON, but nvcc was not found (or this is a sanitizer build)")
  endif()
endif()

if(BRAID_HAVE_CUDA)
  set(CMAKE_CUDA_COMPILER ${BRAID_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES 90a-real)  # Hopper, with its own instructions
  # CMake 3.25 does not know nvcc's C++20 flag.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)

  # cuDNN for attention, through NVIDIA's header-only front end (scripts/setup.sh --cuda fetches it).
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${CMAKE_SOURCE_DIR}/third_party/cudnn_frontend/include)
  if(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY AND CUDNN_FRONTEND_INCLUDE_DIR)
    set(BRAID_HAVE_CUDNN ON)
    add_library(braid_cudnn INTERFACE)
    target_include_directories(braid_cudnn SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
    target_link_libraries(braid_cudnn INTERFACE ${CUDNN_LIBRARY})
  endif()
endif()
message(STATUS "CUDA backend: ${BRAID_HAVE_CUDA}; attention through cuDNN: ${BRAID_HAVE_CUDNN}")
